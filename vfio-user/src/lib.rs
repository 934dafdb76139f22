//! The vfio-user protocol, client and server.
