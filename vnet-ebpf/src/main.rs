//! kernel object
fn main() {}
