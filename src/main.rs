//! The `auk` command.

fn main() {}
