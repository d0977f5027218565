//! The bench tool.
fn main() {}
