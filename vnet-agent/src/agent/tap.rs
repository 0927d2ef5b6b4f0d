//! Is the agent's tap there, and does somebody read it?
//!
//! Nothing but a mistake takes it away while the agent runs; then it is made anew, with a new task
//! that copies its frames.

use std::sync::Arc;

use tokio::task::JoinHandle;
use tracing::{info, warn};

use super::Agent;
use crate::act::reconcile::desired::Fault;
use crate::model::host::DeviceKind;
use crate::overlay::runtime::{self, Askers};
use crate::world::tap::Tap;

/// The tap, as the agent's task knows it.
#[derive(Debug, Default)]
pub(super) struct OwnTap {
    /// The kernel's index of it; 0 while there is none.
    pub(super) index: u32,
    /// A snapshot of the host has shown it: from then on, one without it means that it is gone.
    was_seen: bool,
    /// The task that copies its frames.
    copier: Option<JoinHandle<()>>,
}

impl OwnTap {
    pub(super) fn new(tap: &Tap) -> Self {
        Self {
            index: tap.index(),
            was_seen: false,
            copier: None,
        }
    }
}

impl Drop for OwnTap {
    fn drop(&mut self) {
        if let Some(copier) = self.copier.take() {
            copier.abort();
        }
    }
}

impl Agent {
    /// Has a task copy the frames of this tap, instead of the one before.
    pub(super) fn copy_from(&mut self, tap: Tap) {
        let index = tap.index();
        let tap = Arc::new(tap);
        self.probing.send_by(Arc::clone(&tap));
        self.carriers.write_to(Arc::clone(&tap));
        let receivers = self.receivers.subscribe();
        self.watch.send_by(Arc::clone(&tap));
        let askers = Askers {
            replies: [self.probing.replies.clone(), self.watch.replies.clone()],
            outboxes: self.carriers.outboxes(),
        };
        let counts = Arc::clone(&self.slow_path);
        let copier = tokio::spawn(runtime::run(tap, receivers, askers, counts));
        self.tap = OwnTap {
            index,
            was_seen: false,
            copier: Some(copier),
        };
    }

    /// Removes the tap that an earlier agent had under another name.
    pub(super) async fn remove_earlier_tap(&self, earlier: u32) {
        let requests = self.watcher.requests();
        if earlier == 0 || earlier == self.tap.index {
            return;
        }
        let device = requests.device(earlier).await.ok().flatten();
        let Some(device) = device.filter(|device| device.kind == DeviceKind::Tap) else {
            return;
        };
        match Tap::remove_named(&device.name, requests).await {
            Ok(_) => info!(device = device.name, "the earlier agent's tap is removed"),
            Err(error) => warn!(device = device.name, %error, "the earlier agent's tap stays"),
        }
    }

    /// Makes the tap again where it is gone.
    pub(super) async fn keep_tap(&mut self) -> Option<Fault> {
        let is_there = self.host.devices.contains_key(&self.tap.index);
        self.tap.was_seen |= is_there;
        if is_there || !self.tap.was_seen {
            return None;
        }
        let name = self.settings.slow_path_device.clone();
        match Tap::open(&name, self.watcher.requests()).await {
            Ok(tap) => {
                info!(device = name, "the agent's tap was gone and is made again");
                self.copy_from(tap);
                None
            }
            Err(error) => {
                self.tap.index = 0;
                Some(Fault {
                    subject: format!("device {name}"),
                    message: format!("the agent's tap is gone: {error}"),
                    cure: "broadcasts are not forwarded until it is there again".to_owned(),
                    is_waiting: false,
                })
            }
        }
    }
}
