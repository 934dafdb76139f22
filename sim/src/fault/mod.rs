//! Faults that wait, and those that last. What each is, is in [`crate::inject::Verb`].

mod ailments;
mod plan;

pub(crate) use ailments::{Ailments, Spell};
pub(crate) use plan::{Met, Plan};
