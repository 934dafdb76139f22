//! The simulated A1 and the simulated host around it.
