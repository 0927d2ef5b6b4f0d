//! Which guests send packets that are too big?
//!
//! Input: the MTUs of ports and networks, and the ports' ledgers. Output: a problem for each port
//! whose guest seems to have a larger MTU than its network carries. What a guest has set is out of
//! sight: it shows in what it sends, and in a device that the agent may not set.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use vnet_common::reason::Reason;
use vnet_common::table::ledger::Ledger;

use super::Agent;
use crate::api::{Problem, Refusal, Severity};

/// How long a port is named after its last frame that was too big: as long as Linux remembers what
/// it was answered (`net.ipv4.route.mtu_expires`), so that a guest whose MTU stays too large stays
/// named while it talks.
const NAMED_FOR: Duration = Duration::from_secs(600);

/// What was seen of ports that send frames which are too big.
#[derive(Debug, Default)]
pub(super) struct TooBigSeen {
    /// How many there were when the number last rose, and when that was seen; by device.
    ports: BTreeMap<u32, (u64, Instant)>,
}

impl TooBigSeen {
    /// Takes note of a port's count; returns for how long it has not risen, if that is to be named.
    fn observe(&mut self, port: u32, count: u64, now: Instant) -> Option<Duration> {
        if count == 0 {
            self.ports.remove(&port);
            return None;
        }
        let seen = self.ports.entry(port).or_insert((count, now));
        if seen.0 != count {
            *seen = (count, now);
        }
        Some(now.saturating_duration_since(seen.1)).filter(|&quiet| quiet < NAMED_FOR)
    }
}

fn too_big(ledger: &Ledger) -> u64 {
    let number = usize::from(Reason::TooBig.number());
    ledger.dropped.get(number).copied().unwrap_or(0)
}

impl Agent {
    /// Ports whose guests' MTU is too large.
    pub(super) fn guest_mtu_problems(&mut self) -> Result<Vec<Problem>, Refusal> {
        let now = Instant::now();
        let gone = |index: &u32| !self.reconciler.now().ports.contains_key(index);
        self.too_big.ports.retain(|index, _| !gone(index));
        let mut problems = Vec::new();
        for taken in &self.devices {
            let port = self.configuration.ports.get(taken.port);
            let (Some(device), Some(port)) = (self.host.device_named(&taken.name), port) else {
                continue;
            };
            let Some(entry) = self.reconciler.now().ports.get(&device.index) else {
                continue;
            };
            let count = too_big(&self.ledger(entry.ledger)?);
            let quiet = self.too_big.observe(device.index, count, now);
            let guest_mtu = self.desired.guest_mtus.get(&port.network).copied();
            let message = complaint(&port.network, device.mtu, guest_mtu, quiet.map(|_| count));
            let cure = match guest_mtu {
                Some(mtu) => format!("set the MTU to {mtu} or less in the guest"),
                None => "set the guest's MTU to that of the port that it sends to".to_owned(),
            };
            problems.extend(message.map(|message| Problem {
                severity: Severity::Warning,
                subject: format!("port {}", device.name),
                message,
                cure: Some(cure),
            }));
        }
        Ok(problems)
    }
}

/// What there is to say of a port: its device's MTU, what its network leaves to guests, and how
/// many of its frames were too big, if some were of late.
fn complaint(
    network: &str,
    mtu: u32,
    guest_mtu: Option<u32>,
    count: Option<u64>,
) -> Option<String> {
    let carries = match guest_mtu {
        Some(guest_mtu) => format!("{network} carries {guest_mtu} bytes"),
        None => format!("{network} does not carry all that it sends"),
    };
    match (guest_mtu.filter(|&carried| carried < mtu), count) {
        (_, Some(count)) => Some(format!(
            "its guest's MTU is too large: {carries}, and {count} of its frames were larger"
        )),
        (Some(_), None) => Some(format!("its MTU is {mtu}, and {carries}")),
        (None, None) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_named_while_its_frames_are_too_big_and_ten_minutes_on() {
        let mut seen = TooBigSeen::default();
        let start = Instant::now();
        let mut at = |seconds, count| {
            let now = start + Duration::from_secs(seconds);
            seen.observe(7, count, now).map(|quiet| quiet.as_secs())
        };
        assert_eq!(at(0, 0), None);
        assert_eq!(at(30, 3), Some(0));
        assert_eq!(at(60, 3), Some(30));
        assert_eq!(at(90, 4), Some(0));
        assert_eq!(at(689, 4), Some(599));
        assert_eq!(at(690, 4), None);
        assert_eq!(at(700, 5), Some(0));
        // Another device got its number.
        assert_eq!(at(710, 0), None);
        assert_eq!(at(720, 5), Some(0));
    }

    #[test]
    fn a_guest_is_named_for_what_it_sends_or_for_what_its_device_would_take() {
        assert_eq!(complaint("blue", 1430, Some(1430), None), None);
        assert_eq!(complaint("blue", 1500, None, None), None);
        assert_eq!(
            complaint("blue", 1500, Some(1430), None).unwrap(),
            "its MTU is 1500, and blue carries 1430 bytes"
        );
        assert_eq!(
            complaint("blue", 1430, Some(1430), Some(2)).unwrap(),
            "its guest's MTU is too large: blue carries 1430 bytes, and 2 of its frames were larger"
        );
        assert!(complaint("blue", 1500, None, Some(2)).is_some());
    }
}
