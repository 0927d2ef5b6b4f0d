//! What do all paths have in common?
//!
//! Two hosts joined by one cable (a veth pair, nothing between), and on each a port with a guest
//! behind it ([`crate::taps`], [`crate::stations`]). Made anew for every measurement, so that no
//! path finds what another left, and luck with memory places is part of the spread.

use anyhow::{Context, Result, bail, ensure};
use lab::{Host, Lab};

/// Either end of the cable.
pub const CABLE: &str = "eth0";
/// The hosts' addresses on the cable.
pub const ADDRESSES: [&str; 2] = ["10.0.0.1", "10.0.0.2"];
/// The largest frame that a cable of 1500 bytes takes, with its Ethernet header.
const FRAME_BYTES_MAX: u64 = 1514;
/// What no wire does: to carry frames larger than its MTU. A NIC that receives joins what belongs
/// together. Stacks may still cut late, as they do above a NIC that cannot.
const AS_A_WIRE: &str = "tso off tx-udp-segmentation off tx-udp_tnl-segmentation off \
                         tx-udp_tnl-csum-segmentation off gro on";

/// Two hosts.
#[derive(Debug)]
pub struct Bed {
    /// The host of the guest that sends.
    pub one: Host,
    /// The host of the guest that receives.
    pub two: Host,
    /// The device of the guest on either host.
    pub port: &'static str,
}

/// What the cable may do that no wire does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Underlay {
    /// As a veth comes: frames that are many cross as one.
    OffloadsOn,
    /// As a wire: what crosses is at most one MTU long.
    OffloadsOff,
}

impl Underlay {
    /// Both.
    pub const ALL: [Self; 2] = [Self::OffloadsOn, Self::OffloadsOff];

    /// The name in the names of figures.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::OffloadsOn => "on",
            Self::OffloadsOff => "off",
        }
    }
}

/// What came out of the cable at host two so far.
#[derive(Clone, Copy, Debug)]
pub struct Carried {
    frames: u64,
    bytes: u64,
}

impl Bed {
    /// Two new hosts. The number tells them from others in the lab.
    ///
    /// # Errors
    ///
    /// The kernel refuses a namespace or a device.
    pub fn new(lab: &Lab, number: u32, port: &'static str) -> Result<Self> {
        let one = lab.host(&format!("one-{number}"))?;
        let two = lab.host(&format!("two-{number}"))?;
        let bed = Self { one, two, port };
        bed.lay_cable()?;
        Ok(bed)
    }

    fn lay_cable(&self) -> Result<()> {
        let Self { one, two, .. } = self;
        one.run(
            format!(
                "ip link add {CABLE} address 02:00:0a:00:00:01 type veth \
                 peer name {CABLE} address 02:00:0a:00:00:02 netns {}",
                two.path().display()
            )
            .split_whitespace(),
        )?;
        for (host, address) in self.hosts().into_iter().zip(ADDRESSES) {
            host.sysctl(&format!("net/ipv6/conf/{CABLE}/disable_ipv6"), "1")?;
            host.run(["ip", "link", "set", CABLE, "up"])?;
            let address = format!("{address}/24");
            host.run(["ip", "address", "add", &address, "dev", CABLE])?;
        }
        Ok(())
    }

    /// Both hosts.
    #[must_use]
    pub fn hosts(&self) -> [&Host; 2] {
        [&self.one, &self.two]
    }

    /// Has the cable be like this; a new one has its offloads on, and none gets them back.
    ///
    /// # Errors
    ///
    /// A device cannot.
    pub fn set_underlay(&self, underlay: Underlay) -> Result<()> {
        if underlay == Underlay::OffloadsOn {
            return Ok(());
        }
        let words = ["ethtool", "-K", CABLE].into_iter();
        for host in self.hosts() {
            host.run(words.clone().chain(AS_A_WIRE.split_whitespace()))?;
        }
        Ok(())
    }

    /// Reads the counters of host two's end of the cable.
    ///
    /// # Errors
    ///
    /// It is gone.
    pub fn carried(&self) -> Result<Carried> {
        let counter = |name| number_of(&self.two, &format!("statistics/{name}"));
        Ok(Carried {
            frames: counter("rx_packets")?,
            bytes: counter("rx_bytes")?,
        })
    }

    /// Sees that nothing crossed the cable since then that no wire carries, in the mean.
    ///
    /// # Errors
    ///
    /// Something did.
    pub fn ensure_as_a_wire(&self, since: Carried) -> Result<()> {
        let now = self.carried()?;
        let mean = (now.bytes - since.bytes)
            .checked_div(now.frames - since.frames)
            .context("nothing crossed the cable")?;
        ensure!(
            mean <= FRAME_BYTES_MAX,
            "the cable carried frames of {mean} bytes in the mean, which no wire does"
        );
        Ok(())
    }

    /// The index of a device, the same number on both hosts or an error: the paths are to differ
    /// in nothing else.
    ///
    /// # Errors
    ///
    /// There is no such device, or the hosts differ.
    pub fn device_index(&self, device: &str) -> Result<u32> {
        let [one, two] = [index(&self.one, device)?, index(&self.two, device)?];
        if one != two {
            bail!("{device} is number {one} on one host and {two} on the other");
        }
        Ok(one)
    }
}

fn index(host: &Host, device: &str) -> Result<u32> {
    Ok(u32::try_from(read(host, device, "ifindex")?)?)
}

fn number_of(host: &Host, file: &str) -> Result<u64> {
    read(host, CABLE, file)
}

fn read(host: &Host, device: &str, file: &str) -> Result<u64> {
    let path = format!("/sys/class/net/{device}/{file}");
    let text = host
        .inside(|| std::fs::read_to_string(&path))?
        .with_context(|| format!("there is no {device} on `{}`", host.name()))?;
    Ok(text.trim().parse()?)
}
