//! What do all paths have in common?
//!
//! Two hosts joined by one cable (a veth pair, nothing between), a tap in each, and this process
//! as the guest behind both taps. Made anew for every measurement, so that no path finds what
//! another left, and luck with memory places is part of the spread.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use lab::{Host, Lab, TapGuest};

use crate::frame::{GUEST_ONE, GUEST_TWO, frame};

/// The device of a guest on either host.
pub const TAP: &str = "tap0";
/// Either end of the cable.
pub const CABLE: &str = "eth0";
/// The hosts' addresses on the cable.
pub const ADDRESSES: [&str; 2] = ["10.0.0.1", "10.0.0.2"];

/// Frames that a tap keeps for its reader, the same for every path: the kernel's own default, so
/// that it does not matter whether anything else on the way would change it.
const QUEUE_FRAMES: u32 = 1000;

/// Two hosts and their guests.
#[derive(Debug)]
pub struct Bed {
    /// The host of the guest that sends.
    pub one: Host,
    /// The host of the guest that receives.
    pub two: Host,
    /// The guest that sends.
    pub sender: TapGuest,
    /// The guest that receives.
    pub receiver: TapGuest,
}

impl Bed {
    /// Two new hosts. The number tells them from others in the lab.
    ///
    /// # Errors
    ///
    /// The kernel refuses a namespace or a device.
    pub fn new(lab: &Lab, number: u32) -> Result<Self> {
        let one = lab.host(&format!("one-{number}"))?;
        let two = lab.host(&format!("two-{number}"))?;
        let other = two.path();
        one.run(
            format!(
                "ip link add {CABLE} address 02:00:0a:00:00:01 type veth \
                 peer name {CABLE} address 02:00:0a:00:00:02 netns {}",
                other.display()
            )
            .split_whitespace(),
        )?;
        for (host, address) in [&one, &two].into_iter().zip(ADDRESSES) {
            host.sysctl(&format!("net/ipv6/conf/{CABLE}/disable_ipv6"), "1")?;
            host.run(["ip", "link", "set", CABLE, "up"])?;
            host.run([
                "ip",
                "address",
                "add",
                &format!("{address}/24"),
                "dev",
                CABLE,
            ])?;
        }
        let sender = guest(&one, GUEST_ONE)?;
        let receiver = guest(&two, GUEST_TWO)?;
        Ok(Self {
            one,
            two,
            sender,
            receiver,
        })
    }

    /// Waits until frames pass in both directions, the receiver's first: so a bridge that learns
    /// has learned both guests.
    ///
    /// # Errors
    ///
    /// None passes.
    pub fn prove(&self) -> Result<()> {
        let there = (&self.sender, &self.receiver);
        let back = (&self.receiver, &self.sender);
        for (from, to) in [back, there, back] {
            let sent = frame(from.mac(), to.mac(), 64);
            lab::try_eventually("a frame crosses", || {
                from.send(&sent)?;
                let received = to.receive(Duration::from_millis(50))?;
                Ok(received.filter(|frame| *frame == sent).map(drop))
            })
            .with_context(|| format!("from `{}` to `{}`", from.host().name(), to.host().name()))?;
        }
        for guest in [&self.sender, &self.receiver] {
            guest.receive_all_until_quiet(Duration::from_millis(20))?;
        }
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

fn guest(host: &Host, mac: lab::Mac) -> Result<TapGuest> {
    let guest = host.tap_guest(TAP, mac)?;
    let frames = QUEUE_FRAMES.to_string();
    host.run(["ip", "link", "set", TAP, "txqueuelen", &frames])?;
    Ok(guest)
}

fn index(host: &Host, device: &str) -> Result<u32> {
    let path = format!("/sys/class/net/{device}/ifindex");
    let text = host
        .inside(|| std::fs::read_to_string(&path))?
        .with_context(|| format!("there is no {device} on `{}`", host.name()))?;
    Ok(text.trim().parse()?)
}
