//! The `roomcast` command
fn main() {}
