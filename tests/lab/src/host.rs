//! What is a host of the lab?
//!
//! A namespace with uplinks to underlays, ports with guests behind them, and at most one agent
//! that means it (a second one is for testing that it refuses). Clones are the same host.

use std::ffi::OsStr;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, bail};
use vnet_common::addr::Mac;

use crate::agent::Agent;
use crate::binaries::Binaries;
use crate::bridge;
use crate::capture::Capture;
use crate::laboratory::Estate;
use crate::namespace::Namespace;
use crate::namespace_guest::NamespaceGuest;
use crate::process::Output;
use crate::station::Station;
use crate::tap::{TapGuest, TapSettings};
use crate::underlay::Uplink;
use crate::vm::VmGuest;

/// `vnetctl status` found something amiss, and says what in its answer.
const DEGRADED: i32 = 3;

/// The usual MTU of Ethernet, in bytes.
const BRIDGE_MTU: u32 = 1500;

/// A host: a namespace where agents and ports live.
#[derive(Clone, Debug)]
pub struct Host {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    // Dropped before the directory that its files are in.
    namespace: Namespace,
    uplinks: Mutex<Vec<Uplink>>,
    estate: Arc<Estate>,
}

impl Host {
    pub(crate) fn new(namespace: Namespace, estate: Arc<Estate>) -> Self {
        Self {
            inner: Arc::new(Inner {
                namespace,
                uplinks: Mutex::default(),
                estate,
            }),
        }
    }

    pub(crate) fn estate(&self) -> &Arc<Estate> {
        &self.inner.estate
    }

    pub(crate) fn add_uplink(&self, uplink: Uplink) {
        self.inner
            .uplinks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(uplink);
    }

    /// The host's place on the first underlay that it was connected to.
    pub fn uplink(&self) -> Result<Uplink> {
        let uplinks = self
            .inner
            .uplinks
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        uplinks
            .first()
            .cloned()
            .with_context(|| format!("`{}` has no uplink", self.name()))
    }

    /// Starts an agent with these settings and waits until it is ready. Its name, pin directory,
    /// socket and state directory are set to places in the lab wherever the text leaves them open.
    ///
    /// # Errors
    ///
    /// Where the agent ends instead of getting ready; the error quotes its log.
    pub fn agent(&self, settings: &str) -> Result<Agent> {
        self.agent_from(&Binaries::find()?, settings)
    }

    /// As [`Host::agent`], with these programs.
    pub fn agent_from(&self, binaries: &Binaries, settings: &str) -> Result<Agent> {
        Agent::start(self, binaries.clone(), settings)
    }

    /// A program of this process as the guest on a new tap.
    pub fn tap_guest(&self, port: &str, mac: Mac) -> Result<TapGuest> {
        TapGuest::new(self, port, mac, TapSettings::default())
    }

    /// The same on a tap of another kind: one whose guest leaves work to its NIC, for example.
    pub fn tap_guest_with(&self, port: &str, mac: Mac, settings: TapSettings) -> Result<TapGuest> {
        TapGuest::new(self, port, mac, settings)
    }

    /// A namespace as the guest behind a new veth.
    pub fn namespace_guest(&self, station: Station) -> Result<NamespaceGuest> {
        NamespaceGuest::new(self, station)
    }

    /// A virtual machine as the guest on a new tap; returns when its shell answers.
    pub fn vm_guest(&self, station: Station) -> Result<VmGuest> {
        VmGuest::boot(self, station)
    }

    /// Records what passes on a device of the host, except what an XDP program there redirects
    /// or drops. The filter is tcpdump's.
    pub fn capture(&self, device: &str, filter: &str) -> Result<Capture> {
        Capture::start(self, &self.inner.estate, device, filter)
    }

    /// Where the host's agent listens.
    #[must_use]
    pub fn agent_socket(&self) -> PathBuf {
        self.directory().join("agent.sock")
    }

    /// What `vnetctl` answers to a verb, as JSON; a status that is degraded is an answer too.
    ///
    /// # Errors
    ///
    /// Where `vnetctl` fails, or prints what is not JSON.
    pub fn vnetctl<S: AsRef<OsStr>>(
        &self,
        verb: impl IntoIterator<Item = S>,
    ) -> Result<serde_json::Value> {
        let words: Vec<_> = verb
            .into_iter()
            .map(|word| word.as_ref().to_owned())
            .collect();
        let json = ["-o", "json"].map(std::ffi::OsString::from);
        let given = words.iter().any(|word| word == "-o" || word == "--output");
        let options = if given {
            [].as_slice()
        } else {
            json.as_slice()
        };
        let output = self.attempt_vnetctl(options.iter().chain(&words))?;
        let answered = output.success() || output.status == DEGRADED;
        let output = if answered {
            output
        } else {
            output.successful()?
        };
        serde_json::from_str(&output.stdout)
            .with_context(|| format!("not JSON from `{}`: {}", output.command, output.stdout))
    }

    /// What `vnetctl` prints and how it ends, whatever that is.
    pub fn attempt_vnetctl<S: AsRef<OsStr>>(
        &self,
        words: impl IntoIterator<Item = S>,
    ) -> Result<Output> {
        let mut command = self.command(Binaries::find()?.vnetctl);
        command.env("VNET_SOCKET", self.agent_socket()).args(words);
        crate::process::attempt(&mut command)
    }

    /// Joins devices with a plain Linux bridge: what the overlay is compared with.
    pub fn bridge(&self, name: &str, devices: &[&str]) -> Result<()> {
        bridge::make(self, name, BRIDGE_MTU)?;
        for device in devices {
            bridge::add_port(self, name, device)?;
        }
        devices
            .iter()
            .try_for_each(|device| bridge::wait_until_forwarding(self, device))
    }

    /// A path for a new file of this host, refused where the file exists.
    pub(crate) fn new_file(&self, name: &str) -> Result<PathBuf> {
        let path = self.directory().join(Path::new(name));
        if path.exists() {
            bail!("`{}` has a file {name} already", self.name());
        }
        Ok(path)
    }
}

/// A host is first of all a namespace, and can do whatever that can.
impl Deref for Host {
    type Target = Namespace;

    fn deref(&self) -> &Namespace {
        &self.inner.namespace
    }
}
