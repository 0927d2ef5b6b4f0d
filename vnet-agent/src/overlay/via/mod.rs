//! How do agents and the proxy reach each other? Connections, with everything about them that the
//! pure part of the overlay does not know: sockets, TLS, clocks.
//!
//! [`dial`] is an agent's task and [`listen`] the proxy's; each has one more task a connection.
//! Any of them may be aborted at any `await`: what must last is told to the agent's own task.
//!
//! [`carry`] has the connections that links' frames go over.

pub mod call;
pub mod carry;
pub mod control_tls;
pub mod dial;
pub mod join;
pub mod line;
pub mod listen;
