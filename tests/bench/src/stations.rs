//! How do guests with a whole IP stack talk over a bed?
//!
//! A namespace on each host, behind a veth. They know each other's Ethernet address from the
//! start, and all have the same MTU, which fits every path: nobody asks, nothing is cut.

use anyhow::{Context, Result};
use lab::{Mac, Namespace, NamespaceGuest, Station};

use crate::bed::{Bed, CABLE};
use crate::frame::{GUEST_ONE, GUEST_TWO};
use crate::path::{Guests, Path};

/// The device of a guest on either host.
pub const VETH: &str = "veth0";
/// The guests' addresses.
pub const GUEST_ADDRESSES: [&str; 2] = ["10.9.0.1", "10.9.0.2"];
/// The guests' largest IP packet: what any of the tunnels can carry over 1500 bytes.
pub const GUEST_MTU: u32 = 1400;

/// As a veth comes: the guest leaves checksums and segments to its NIC.
const OFFLOADS_ON: &str = "tx on sg on tso on gso on txvlan on rxvlan on gro off";

/// The guests of a bed.
#[derive(Debug)]
pub struct Stations {
    guests: Option<[NamespaceGuest; 2]>,
}

impl Stations {
    /// Puts guests into a bed whose port is [`VETH`], as this path needs them.
    ///
    /// # Errors
    ///
    /// The kernel refuses a device.
    pub fn new(bed: &Bed, path: Path) -> Result<Self> {
        let kind = path.guests();
        if kind == Guests::OnTheCable {
            return Ok(Self { guests: None });
        }
        let [one, two] = GUEST_ADDRESSES;
        let guest = |host: &lab::Host, mac, own: &str, (other, other_mac): (&str, Mac)| {
            let station = Station::new(VETH, mac).mtu(GUEST_MTU);
            let guest = host.namespace_guest(station.address(&format!("{own}/24")))?;
            if kind == Guests::LeaveWorkToTheirNic {
                let words = ["ethtool", "-K", "eth0"].into_iter();
                guest.run(words.chain(OFFLOADS_ON.split_whitespace()))?;
            }
            let neighbour =
                format!("ip neighbour replace {other} lladdr {other_mac} dev eth0 nud permanent");
            guest.run(neighbour.split_whitespace())?;
            anyhow::Ok(guest)
        };
        Ok(Self {
            guests: Some([
                guest(&bed.one, GUEST_ONE, one, (two, GUEST_TWO))?,
                guest(&bed.two, GUEST_TWO, two, (one, GUEST_ONE))?,
            ]),
        })
    }

    /// The guest that sends.
    #[must_use]
    pub fn client<'a>(&'a self, bed: &'a Bed) -> &'a Namespace {
        self.guests.as_ref().map_or(&bed.one, |[one, _]| one)
    }

    /// The guest that receives.
    #[must_use]
    pub fn server<'a>(&'a self, bed: &'a Bed) -> &'a Namespace {
        self.guests.as_ref().map_or(&bed.two, |[_, two]| two)
    }

    /// Waits until packets pass in both directions, the receiver's first: so a bridge that learns
    /// has learned both guests.
    ///
    /// # Errors
    ///
    /// None passes.
    pub fn prove(&self, bed: &Bed) -> Result<()> {
        let [one, two] = GUEST_ADDRESSES;
        for (from, to) in [(self.server(bed), one), (self.client(bed), two)] {
            lab::try_eventually("a ping is answered", || {
                let output = from.attempt(["ping", "-c", "1", "-W", "0.3", "-q", to])?;
                Ok(output.success().then_some(()))
            })
            .with_context(|| format!("from `{}` to {to}", from.name()))?;
        }
        Ok(())
    }
}

/// Has the hosts themselves be the guests, on the cable.
///
/// # Errors
///
/// The kernel refuses.
pub fn move_to_the_cable(bed: &Bed) -> Result<()> {
    for (host, address) in bed.hosts().into_iter().zip(GUEST_ADDRESSES) {
        let mtu = GUEST_MTU.to_string();
        host.run(["ip", "link", "set", CABLE, "mtu", &mtu])?;
        let address = format!("{address}/24");
        host.run(["ip", "address", "add", &address, "dev", CABLE])?;
    }
    Ok(())
}
