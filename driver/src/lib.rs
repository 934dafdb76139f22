//! Userspace driver of the A1 over VFIO and vfio-user.
