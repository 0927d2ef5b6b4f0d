//! What goes wrong, and when? All of it from one number, so that a run can be had again.
//!
//! Input: a seed. Output: hosts with VMs, what the network is like, and faults in the order in which
//! they begin. A run that fails is tried again with fewer faults, as long as it still fails.

use std::fmt;

use proptest::prelude::Rng as _;
use proptest::test_runner::{RngAlgorithm, TestRng};
use vnet_agent::model::Network;
use vnet_agent::model::topology::{Host, Role, Topology, Vm};
use vnet_common::addr::NetworkId;

use crate::topology::{NETWORKS, mac};

/// Chance.
pub struct Chance(TestRng);

impl Chance {
    /// The same for the same seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        Self(TestRng::from_seed(RngAlgorithm::ChaCha, &bytes))
    }

    /// A number below this one; 0 below 0.
    pub fn below(&mut self, most: u64) -> u64 {
        self.0.next_u64() % most.max(1)
    }

    /// Any number but 0.
    pub fn any(&mut self) -> u64 {
        self.0.next_u64().max(1)
    }

    /// One of these.
    ///
    /// # Panics
    ///
    /// There are none.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[usize::try_from(self.below(of.len() as u64)).unwrap()]
    }
}

/// Where the proxy's process ends, when it deals the next time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Before anything is on disk.
    Dealt,
    /// On disk, and nothing of it done.
    Stored,
    /// Done here, and nobody told.
    Taken,
}

/// What goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// The connection to the proxy breaks, with a piece of what was on its way.
    Break(String),
    /// Nothing of the control channel gets through.
    CutControl(String),
    /// Nothing of the overlay gets through between this agent and the proxy.
    CutPath(String),
    /// An agent's process ends, and comes back.
    CrashAgent(String),
    /// The proxy's.
    CrashProxy,
    /// The proxy's, in the midst of the next change.
    CrashIn(Stage),
    /// The proxy's disk takes nothing.
    DiskFull,
    /// A VM goes, and comes back.
    Unplug(String, String),
    /// A host gets another underlay address, for good.
    Renumber(String),
    /// The proxy comes back and has forgotten everything.
    Forget,
}

impl What {
    /// Whether frames must go on as if nothing had happened.
    pub const fn is_harmless(&self) -> bool {
        !matches!(
            self,
            Self::CutPath(_) | Self::Unplug(..) | Self::Renumber(_) | Self::Forget
        )
    }
}

/// A fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// When it begins.
    pub at_ms: u64,
    /// For how long it lasts.
    pub for_ms: u64,
    /// What it is.
    pub what: What,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} ms, for {} ms: {:?}",
            self.at_ms, self.for_ms, self.what
        )
    }
}

/// A run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where it all comes from.
    pub seed: u64,
    /// Hosts and VMs; the first host is the proxy's.
    pub topology: Topology,
    /// Of a thousand packets of the overlay, how many are lost.
    pub loss_per_mille: u32,
    /// How long a packet or a message takes at the least, and what is added by chance.
    pub delay_us: (u64, u64),
    /// What goes wrong.
    pub faults: Vec<Fault>,
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}, delay {:?} us", self.seed, self.delay_us)?;
        for vm in &self.topology.vms {
            writeln!(
                f,
                "  {} in {} on {} {}",
                vm.mac, vm.network, vm.host, vm.device
            )?;
        }
        for fault in &self.faults {
            writeln!(f, "  {fault}")?;
        }
        Ok(())
    }
}

/// Within this time faults begin.
pub const FAULTS_MS: u64 = 4000;

impl Plan {
    /// The run of this number, with faults that may be anything.
    #[must_use]
    pub fn any(seed: u64) -> Self {
        Self::with(seed, |_| true)
    }

    /// The run of this number, with faults that leave frames alone.
    #[must_use]
    pub fn harmless(seed: u64) -> Self {
        Self::with(seed, What::is_harmless)
    }

    /// The run of this number, where nothing goes wrong.
    #[must_use]
    pub fn calm(seed: u64) -> Self {
        Self::with(seed, |_| false)
    }

    fn with(seed: u64, may_be: impl Fn(&What) -> bool) -> Self {
        let mut chance = Chance::new(seed);
        let topology = topology(&mut chance);
        let delay_us = (50 + chance.below(5000), chance.below(3000));
        let count = 1 + chance.below(6);
        let mut faults: Vec<Fault> = (0..count)
            .map(|_| fault(&mut chance, &topology))
            .filter(|fault| may_be(&fault.what))
            .collect();
        faults.sort_by_key(|fault| fault.at_ms);
        Self {
            seed,
            topology,
            loss_per_mille: 0,
            delay_us,
            faults,
        }
    }

    /// When the last fault is over.
    #[must_use]
    pub fn over_ms(&self) -> u64 {
        let ends = self.faults.iter().map(|fault| fault.at_ms + fault.for_ms);
        ends.max().unwrap_or(0)
    }
}

fn topology(chance: &mut Chance) -> Topology {
    let hosts = 3 + chance.below(3);
    let host = |number: u64| Host {
        name: if number == 0 {
            "proxy".to_owned()
        } else {
            format!("host{number}")
        },
        user: "root".to_owned(),
        port: 6081,
        interface: "eth0".to_owned(),
        address: Some([10, 0, 0, u8::try_from(number).unwrap() + 1].into()),
        role: if number == 0 {
            Role::Proxy
        } else {
            Role::Agent
        },
    };
    let hosts: Vec<Host> = (0..hosts).map(host).collect();
    let networks = NETWORKS.iter().zip(7..).map(|(name, id)| Network {
        name: (*name).to_owned(),
        id: NetworkId::new(id).unwrap(),
    });
    let mut vms: Vec<Vm> = Vec::new();
    for number in 0..(3 + chance.below(5)) {
        let network = *chance.pick(&NETWORKS);
        let address = mac(u8::try_from(chance.below(6)).unwrap());
        let is_taken = |vm: &Vm| vm.network == network && vm.mac == address;
        if vms.iter().any(is_taken) {
            continue;
        }
        vms.push(Vm {
            name: format!("vm{number}"),
            mac: address,
            network: network.to_owned(),
            host: chance.pick(&hosts).name.clone(),
            device: format!("tap{number}"),
            fixed: false,
        });
    }
    Topology {
        networks: networks.collect(),
        hosts,
        vms,
        links: Vec::new(),
        rules: Vec::new(),
    }
}

fn fault(chance: &mut Chance, topology: &Topology) -> Fault {
    let agent = chance.pick(&topology.hosts[1..]).name.clone();
    let vm = chance.pick(&topology.vms).clone();
    let what = match chance.below(11) {
        0 | 1 => What::Break(agent),
        2 => What::CutControl(agent),
        3 => What::CutPath(agent),
        4 => What::CrashAgent(agent),
        5 => What::CrashProxy,
        6 => What::CrashIn(*chance.pick(&[Stage::Dealt, Stage::Stored, Stage::Taken])),
        7 => What::DiskFull,
        8 => What::Unplug(vm.host, vm.device),
        9 => What::Renumber(agent),
        _ => What::Forget,
    };
    Fault {
        at_ms: chance.below(FAULTS_MS),
        for_ms: *chance.pick(&[1, 20, 100, 400, 700, 1500]),
        what,
    }
}
