//! Development tasks: `cargo xtask fixtures` and friends.

fn main() {}
