//! The overlay as a graph: who gets a frame that is for more than one, and who hears of a frame that
//! is too big; who belongs to it, and how agents and the proxy keep together.

pub mod carrier;
pub mod flood;
pub mod message;
pub mod once;
pub mod picture;
pub mod refusal;
pub mod roll;
pub mod rollout;
pub mod runtime;
pub mod session;
pub mod slow_path;
pub mod star;
pub mod too_big;
pub mod via;
pub mod walk;
