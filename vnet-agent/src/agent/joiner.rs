//! Is the device there for which the kernel joins packets of the overlay, where they are to be joined?
//!
//! It is wanted where packets come in by the TC door alone: XDP sees each by itself, and passes up what is to
//! be joined without its headers. Without the device everything works, with more to do.

use tracing::{info, warn};

use super::Agent;
use crate::model::door::Door;
use crate::model::host::Device;
use crate::world::joiner;

/// The device, as the agent's task knows it.
#[derive(Debug, Default)]
pub(super) struct Joiner {
    /// The UDP port of the one that there is, or was when last seen.
    port: Option<u16>,
    /// Why there is none, where there should be.
    pub(super) fails: Option<String>,
}

impl Joiner {
    /// What an agent before this one may have left.
    pub(super) fn of_earlier_agent(port: Option<[u8; 2]>) -> Self {
        Self {
            port: port.map(u16::from_be_bytes),
            fails: None,
        }
    }
}

impl Agent {
    /// Whether it is the device of this agent.
    pub(super) fn is_joiner(&self, device: &Device) -> bool {
        self.joiner.port.map(joiner::name).as_ref() == Some(&device.name)
    }

    fn wants_joiner(&self) -> bool {
        let device = self.configuration.underlay.on.device(&self.host);
        let pick = self.doors.picks.underlay.as_ref();
        pick.is_some_and(|pick| pick.door == Door::Tc)
            && device.is_some_and(|device| device.abilities.joins)
    }

    /// Makes the device where it is wanted and not there, and removes it where it is not wanted.
    pub(super) async fn keep_joiner(&mut self) {
        let wanted = self
            .wants_joiner()
            .then_some(self.configuration.underlay.udp_port);
        if let Some(other) = self.joiner.port.filter(|&before| Some(before) != wanted) {
            self.joiner.port = None;
            match joiner::remove(other, self.watcher.requests()).await {
                Ok(true) => info!(device = joiner::name(other), "it is not needed any more"),
                Ok(false) => {}
                Err(error) => warn!(device = joiner::name(other), %error, "it stays"),
            }
        }
        let before = self.joiner.fails.take();
        if let Some(port) = wanted {
            let name = joiner::name(port);
            let known = self.host.device_named(&name);
            if !known.is_some_and(joiner::is_at_work) {
                match joiner::open(port, self.watcher.requests()).await {
                    Ok(()) => self.joiner.port = Some(port),
                    Err(error) => self.joiner.fails = Some(error.to_string()),
                }
            } else {
                self.joiner.port = Some(port);
            }
        }
        if self.joiner.fails != before {
            self.pick_doors();
        }
    }
}
