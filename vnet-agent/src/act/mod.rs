//! Making it so: how does what is wanted become what is?

pub mod reconcile;
