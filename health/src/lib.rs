//! Health agent for accelerators and NICs.
