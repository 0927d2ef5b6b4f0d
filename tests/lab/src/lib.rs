//! Hosts as network namespaces, an underlay between them, guests in three sizes.
//!
//! How does one try an overlay of several hosts on one machine? A test makes a [`Lab`], asks it
//! for hosts and an underlay, puts guests and agents on the hosts, and runs commands in any of
//! them. Needs root and leaves nothing behind, however the test ends.
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! use lab::{Lab, Mac, Station, UnderlaySettings};
//!
//! let lab = Lab::new("example")?;
//! let (one, two, underlay) = lab.two_hosts(UnderlaySettings::default())?;
//! one.run(["ping", "-c", "1", "10.0.0.2"])?;
//!
//! let guest_one = Mac([0x52, 0x54, 0, 0, 0, 1]);
//! let guest = one.namespace_guest(Station::new("veth1", guest_one).address("10.9.0.1/24"))?;
//! let agent = one.agent("[underlay]\ndevice = \"eth0\"\n")?;
//! println!("{}", one.vnetctl(["status"])?);
//! # Ok(())
//! # }
//! ```

mod agent;
mod binaries;
mod bridge;
mod capture;
mod hop;
mod host;
mod laboratory;
mod namespace;
mod namespace_guest;
mod patience;
mod process;
mod station;
mod tap;
mod underlay;
mod vm;
mod vnet_header;

pub use agent::Agent;
pub use binaries::Binaries;
pub use capture::{Capture, Recording};
pub use hop::Hop;
pub use host::Host;
pub use laboratory::{Lab, in_lab};
pub use namespace::{BPF_DIRECTORY, Namespace};
pub use namespace_guest::NamespaceGuest;
pub use patience::{LIMIT, eventually, try_eventually};
pub use process::{Output, Process, attempt};
pub use station::Station;
pub use tap::{TapGuest, TapSettings};
pub use underlay::{Underlay, UnderlaySettings, Uplink};
pub use vm::image::GuestImage;
pub use vm::machine::Machine;
pub use vm::{Luggage, Said, Transfer, VmGuest, on_debians_kernel};
pub use vnet_common::addr::Mac;
pub use vnet_header::{Cut, Offloads, Segments, Unfinished, VNET_HEADER_BYTES, VnetHeader};
