//! Every developer verb of the repository.
fn main() {}
