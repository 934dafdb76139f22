//! BAR2: the MSI-X table and the pending bits.

/// Bytes of BAR2.
pub const SIZE: u64 = 0x1000;
/// Vectors: 0 for the admin queue and events, one per I/O queue after it.
pub const VECTORS: u16 = 33;
/// Offset of the MSI-X table in BAR2; 16 bytes a vector, PCI Express Base Specification 6.0,
/// section 7.7.2.
pub const TABLE: u32 = 0x000;
/// Offset of the pending bit array in BAR2.
pub const PBA: u32 = 0x800;
