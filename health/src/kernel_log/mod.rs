//! The kernel log: read by sequence number, each record once, and sifted by rules.
//!
//! [`record`] reads a record, [`rules`] says which are of interest and whom they blame, [`source`] is the log itself,
//! and [`follow`] goes through it: what was lost is a gap that is told, a storm is counted rather than kept.

mod clock;
pub mod follow;
mod names;
pub mod pattern;
pub mod record;
pub mod rules;
pub mod source;
