//! One promise a file: the real binaries in the lab.
//!
//! What do the tests share? The guests and their frames ([`frame`]), what agents are told
//! ([`settings`]), whole overlays of hosts, agents and guests ([`stage`]), what the agents answer
//! ([`ask`]) and whether it adds up ([`books`]), a stream of numbered frames that shows what was
//! lost or doubled ([`stream`]), who reads everything meanwhile ([`listener`]), a proxy with agents that have only
//! certificates ([`overlay`]), which rung its links are on ([`rung`]), which pings come back ([`pings`]), what sites let pass ([`firewall`]),
//! repeatable chance
//! ([`chance`]), what somebody else might have done to a host ([`stranger`]), guests that mean harm
//! ([`hostile`]), agents of other builds ([`build`]), and which CPU does what ([`cpu`]).

pub mod ask;
pub mod books;
pub mod build;
pub mod chance;
pub mod cpu;
pub mod firewall;
pub mod frame;
pub mod hostile;
pub mod listener;
pub mod overlay;
pub mod pings;
pub mod rung;
pub mod settings;
pub mod signal;
pub mod stage;
pub mod stranger;
pub mod stream;
pub mod transfer;
