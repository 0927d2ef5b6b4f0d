//! Which interfaces, links and rules are there?

use std::net::IpAddr;
use std::time::SystemTime;

use vnet_common::addr::Mac;
use vnet_common::rule::Shape;
use vnet_common::table::link::LinkEntry;

use super::Agent;
use crate::api::{
    Interface, InterfaceState, LinkConnection, LinkState, LinkStatus, Refusal, RuleStatus,
};
use crate::model::host::{Device, DeviceKind};
use crate::model::{DeviceMatch, Link, Rule, Target};

impl Agent {
    pub(super) async fn interfaces(&self) -> Result<Vec<Interface>, Refusal> {
        let mut interfaces = Vec::new();
        for device in self.host.devices.values() {
            if device.index == self.tap.index
                || self.is_joiner(device)
                || device.kind == DeviceKind::Loopback
            {
                continue;
            }
            // The kernel does not tell when a program comes or goes, so it is asked.
            let asked = self.watcher.requests().device(device.index).await;
            let xdp = asked.ok().flatten().and_then(|device| device.xdp);
            let pick = self.doors.pick(device.index);
            interfaces.push(Interface {
                door: self.doors_of(device.index, xdp),
                door_why: pick.map(|pick| pick.why.clone()),
                ..self.interface(device)
            });
        }
        interfaces.extend(
            self.configuration
                .ports
                .iter()
                .filter_map(|port| match &port.device {
                    DeviceMatch::Name(name) if self.host.device_named(name).is_none() => {
                        Some(Interface {
                            network: Some(port.network.clone()),
                            addresses: Some(port.addresses.clone()),
                            guest_mtu_bytes: self.desired.guest_mtus.get(&port.network).copied(),
                            state: InterfaceState::Absent,
                            note: Some(
                                "there is no such device; it is taken in when it appears"
                                    .to_owned(),
                            ),
                            ..nothing(name)
                        })
                    }
                    _ => None,
                }),
        );
        Ok(interfaces)
    }

    fn interface(&self, device: &Device) -> Interface {
        let known = Interface {
            ifindex: Some(device.index),
            mtu_bytes: Some(device.mtu),
            up: Some(device.up),
            ..nothing(&device.name)
        };
        if self.desired.underlay == Some(device.index) {
            return Interface {
                state: InterfaceState::Underlay,
                ..known
            };
        }
        let Some(taken) = self.devices.iter().find(|taken| taken.name == device.name) else {
            return known;
        };
        let Some(port) = self.configuration.ports.get(taken.port) else {
            return known;
        };
        let guest_mtu = self.desired.guest_mtus.get(&port.network).copied();
        let failure = self.faults.iter().find(|fault| {
            !fault.is_waiting
                && fault
                    .subject
                    .split_once(' ')
                    .is_some_and(|(_, n)| n == device.name)
        });
        let (state, note) = match failure {
            Some(fault) => (InterfaceState::Failed, Some(fault.message.clone())),
            None if !device.up => (
                InterfaceState::Down,
                Some(format!("ip link set {} up", device.name)),
            ),
            None => (
                InterfaceState::Forwarding,
                guest_mtu.map(|mtu| format!("the guest must use an MTU of {mtu} or less")),
            ),
        };
        Interface {
            network: Some(port.network.clone()),
            addresses: Some(port.addresses.clone()),
            learned: taken.learned,
            guest_mtu_bytes: guest_mtu,
            state,
            note,
            ..known
        }
    }

    pub(super) fn links(&self) -> Result<Vec<LinkStatus>, Refusal> {
        self.configuration
            .links
            .iter()
            .map(|link| self.link(link))
            .collect()
    }

    fn link(&self, link: &Link) -> Result<LinkStatus, Refusal> {
        let id = self.desired.links.get(&link.name).copied();
        let entry = id.and_then(|id| self.reconciler.now().links.get(&id.0));
        let books = entry.map(|entry| self.ledger(entry.ledger)).transpose()?;
        let mtu = self.link_mtu(link);
        let overhead = u32::from(link.overhead());
        let is_up = entry.is_some_and(|entry| entry.device != 0);
        let is_carried = link.kind.is_carried();
        let connection = self.connection(link);
        let subject = format!("link {}", link.name);
        let fault = self.faults.iter().find(|fault| fault.subject == subject);
        let (live, why) = self.live_state(link);
        Ok(LinkStatus {
            name: link.name.clone(),
            id: id.map_or(0, |id| id.0),
            remote: link.remote,
            networks: link.networks.clone(),
            kind: link.kind,
            plain: link.is_plain(),
            flood: link.flood,
            state: match live {
                LinkState::FallenBack => live,
                _ if is_up || self.own_rung(link).is_some() => live,
                _ if is_carried => LinkState::Unconnected,
                _ => LinkState::Unresolved,
            },
            note: why
                .or_else(|| fault.map(|fault| fault.message.clone()))
                .or_else(|| connection.as_ref().map(said_of)),
            fallback: link.fallback.clone(),
            instead: self.detour(link).map(str::to_owned),
            rung_of: link.rung_of.clone(),
            rung: self.rung(link),
            since_unix_ms: self.live_since_unix_ms(link),
            device: entry
                .filter(|_| is_up)
                .map(|entry| self.device(entry.device)),
            next_hop_mac: entry
                .filter(|_| is_up && !is_carried)
                .and_then(next_hop_mac),
            source: entry
                .filter(|_| is_up)
                .and_then(|_| self.local_address(link.remote)),
            guest_mtu_bytes: mtu.map(|mtu| mtu.bytes.saturating_sub(overhead)),
            mtu,
            sent_packets: books.map_or(0, |books| books.sent.packets),
            sent_bytes: books.map_or(0, |books| books.sent.bytes),
            received_packets: books.map_or(0, |books| books.received.packets),
            received_bytes: books.map_or(0, |books| books.received.bytes),
            connection,
        })
    }

    /// The connection of a link that the agent carries.
    fn connection(&self, link: &Link) -> Option<LinkConnection> {
        let (state, carried) = self.carriers.state(&link.name)?;
        let since = state.since.duration_since(SystemTime::UNIX_EPOCH);
        Some(LinkConnection {
            peer: state.peer.map(|(peer, _)| peer),
            opened_here: state.peer.is_some_and(|(_, here)| here),
            since_unix_s: since.map_or(0, |since| since.as_secs()),
            connections: carried.connections,
            sent: carried.sent,
            queue_full: carried.queue_full,
            lost: carried.lost,
            arrived: carried.arrived,
            refused: carried.refused,
        })
    }

    /// This host's end of links to addresses like this one.
    pub(super) fn local_address(&self, remote: IpAddr) -> Option<IpAddr> {
        let entry = self
            .reconciler
            .now()
            .underlays
            .get(&self.desired.underlay?)?;
        let address = match remote {
            IpAddr::V4(_) => IpAddr::from(entry.ipv4),
            IpAddr::V6(_) => IpAddr::from(entry.ipv6),
        };
        Some(address).filter(|address| !address.is_unspecified())
    }

    /// The rules of one network or of all, strongest first and among equals the newest.
    pub(super) fn rules(&self, network: Option<&str>) -> Result<Vec<RuleStatus>, Refusal> {
        if let Some(name) = network
            && self.configuration.network(name).is_none()
        {
            return Err(self.unknown_network(name));
        }
        let effective = self.configuration.effective_rules(&self.devices);
        let rules = effective
            .iter()
            .filter(|rule| network.is_none_or(|name| rule.network == name));
        let mut rules: Vec<RuleStatus> = rules.map(|rule| self.rule(rule)).collect();
        rules.reverse();
        rules.sort_by(|a, b| {
            (&a.network, std::cmp::Reverse(a.strength))
                .cmp(&(&b.network, std::cmp::Reverse(b.strength)))
        });
        Ok(rules)
    }

    pub(super) fn rule(&self, rule: &Rule) -> RuleStatus {
        let note = match &rule.to {
            Target::Port(name) if !self.devices.iter().any(|taken| &taken.name == name) => {
                Some(format!("the port {name} is not there"))
            }
            Target::Link(name) => {
                let subject = format!("link {name}");
                let fault = self.faults.iter().find(|fault| fault.subject == subject);
                fault.map(|fault| fault.message.clone())
            }
            _ => None,
        };
        RuleStatus {
            network: rule.network.clone(),
            source: rule.source,
            destination: rule.destination,
            to: rule.to.clone(),
            origin: rule.origin,
            strength: Shape::of(rule.source, rule.destination).strength(),
            resolved: note.is_none(),
            note,
        }
    }
}

/// An interface of which only the name is known.
fn nothing(name: &str) -> Interface {
    Interface {
        name: name.to_owned(),
        ifindex: None,
        network: None,
        addresses: None,
        learned: None,
        door: None,
        door_why: None,
        mtu_bytes: None,
        guest_mtu_bytes: None,
        up: None,
        state: InterfaceState::Free,
        note: None,
    }
}

/// Since when a link has its connection, for people.
fn said_of(connection: &LinkConnection) -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now_s = now.map_or(0, |now| now.as_secs());
    let age_s = now_s.saturating_sub(connection.since_unix_s);
    match connection.peer {
        Some(peer) if connection.opened_here => format!("connected to {peer} for {age_s} s"),
        Some(peer) => format!("{peer} has been connected for {age_s} s"),
        None => format!("no connection for {age_s} s"),
    }
}

/// The outer headers begin with whom they are sent to.
fn next_hop_mac(entry: &LinkEntry) -> Option<Mac> {
    entry.header.first_chunk().map(|bytes| Mac(*bytes))
}
