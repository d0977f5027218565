//! The sim tool.
fn main() {}
