//! The agent of a host: it loads the data plane, keeps it true to the configuration, and answers
//! questions about it.
//!
//! The modules, in the order in which the loop meets them: what is wanted (`settings`, `model`, `language`),
//! what is (`world`), how the one becomes the other (`act`), the kernel side (`dataplane`), what is better (`decide`), who
//! is who (`identity`), who asks (`api`).

pub mod act;
pub mod agent;
pub mod api;
pub mod dataplane;
pub mod decide;
pub mod identity;
pub mod language;
pub mod model;
pub mod overlay;
pub mod sense;
pub mod settings;
pub mod store;
pub mod world;
