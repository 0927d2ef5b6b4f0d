//! What do we know of the kernel's state at this moment?
//!
//! Input: full lists after a (re)synchronisation, then one [`Event`] at a time, and the kernel's
//! answers about routes. Output: a [`Host`] for the rest of the agent. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::model::host::{Change, Device, Host};
use crate::model::next_hop::{self, Neighbour, NeighbourKey, Route};

/// One thing that the kernel said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// About a device or an address.
    Host(Change),
    /// There is such a neighbour, or it is now like this.
    Neighbour(NeighbourKey, Neighbour),
    /// That neighbour is forgotten.
    NeighbourGone(NeighbourKey),
    /// Some route, rule or next-hop object changed: answers about routes are out of date.
    Routing,
}

/// What an event made out of date.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Touched {
    /// Nothing.
    Nothing,
    /// The snapshot.
    Snapshot,
    /// The snapshot, in which a way is complete that was waited for.
    Way,
    /// The snapshot, and the answers about routes.
    Routes,
}

/// The kernel's state as far as we follow it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct View {
    /// Devices and addresses; its next hops are empty here, and computed for each snapshot.
    host: Host,
    /// All neighbours, wanted or not: which ones are wanted changes with the routes.
    pub(super) neighbours: BTreeMap<NeighbourKey, Neighbour>,
    /// The kernel's answer for each followed destination; none where it has no way there.
    routes: BTreeMap<IpAddr, Option<Route>>,
}

impl View {
    /// Takes in one event.
    pub(super) fn apply(&mut self, event: Event) -> Touched {
        match event {
            Event::Host(change) => {
                if let Change::DeviceGone(index) = change {
                    self.neighbours.retain(|(ifindex, _), _| *ifindex != index);
                }
                if self.host.apply(change) {
                    Touched::Routes
                } else {
                    Touched::Nothing
                }
            }
            Event::Neighbour(key, neighbour) => {
                let before = self.neighbours.get(&key);
                let neighbour = neighbour.after(before);
                let changed = before != Some(&neighbour);
                let was_usable = before.is_some_and(Neighbour::is_usable);
                let is_way = neighbour.is_usable() && !was_usable && self.is_wanted(key);
                self.neighbours.insert(key, neighbour);
                match changed {
                    true if is_way => Touched::Way,
                    true => Touched::Snapshot,
                    false => Touched::Nothing,
                }
            }
            Event::NeighbourGone(key) => match self.neighbours.remove(&key) {
                Some(_) => Touched::Snapshot,
                None => Touched::Nothing,
            },
            Event::Routing => Touched::Routes,
        }
    }

    /// Puts full lists in the place of devices, addresses and neighbours, and keeps the answers
    /// about routes until there are new ones.
    pub(super) fn replace(&mut self, events: Vec<Event>) {
        let before = std::mem::take(&mut self.neighbours);
        self.host = Host::default();
        let mut order_of_addresses: BTreeMap<u32, Vec<_>> = BTreeMap::new();
        for event in events {
            match event {
                // A full list is in the kernel's order already: nothing to find out.
                Event::Host(Change::Address(index, address)) => {
                    order_of_addresses.entry(index).or_default().push(address);
                }
                Event::Neighbour(key, neighbour) => {
                    self.neighbours
                        .insert(key, neighbour.after(before.get(&key)));
                }
                other => {
                    self.apply(other);
                }
            }
        }
        self.host.addresses = order_of_addresses;
    }

    /// The device of this index.
    pub(super) fn device(&self, index: u32) -> Option<&Device> {
        self.host.devices.get(&index)
    }

    /// Remembers the kernel's answer about one destination.
    pub(super) fn set_route(&mut self, destination: IpAddr, route: Option<Route>) {
        self.routes.insert(destination, route);
    }

    /// Forgets the routes of all other destinations.
    pub(super) fn keep_routes(&mut self, destinations: &BTreeSet<IpAddr>) {
        self.routes
            .retain(|destination, _| destinations.contains(destination));
    }

    /// The neighbours whose Ethernet addresses decide about the followed destinations.
    pub(super) fn wanted_neighbours(&self) -> BTreeSet<NeighbourKey> {
        self.ways().collect()
    }

    fn is_wanted(&self, key: NeighbourKey) -> bool {
        self.ways().any(|way| way == key)
    }

    fn ways(&self) -> impl Iterator<Item = NeighbourKey> {
        self.routes.iter().filter_map(|(destination, route)| {
            next_hop::neighbour_of(*destination, route.as_ref()?, &self.host.devices)
        })
    }

    /// The host as it is now, with a next hop or a reason for each followed destination.
    pub(super) fn snapshot(&self) -> Host {
        let mut host = self.host.clone();
        host.next_hops = self
            .routes
            .iter()
            .map(|(destination, route)| {
                let (devices, neighbours) = (&self.host.devices, &self.neighbours);
                let hop = next_hop::next_hop(*destination, route.as_ref(), devices, neighbours);
                (*destination, hop)
            })
            .collect();
        host
    }
}

#[cfg(test)]
mod tests {
    use vnet_common::addr::Mac;

    use super::*;
    use crate::model::host::{Abilities, DeviceKind};
    use crate::model::next_hop::{NeighbourState, NoNextHop};

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn ethernet() -> Event {
        Event::Host(Change::Device(Device {
            index: 2,
            name: "eth0".to_owned(),
            up: true,
            running: true,
            mtu: 1500,
            mtu_max: None,
            mac: Some(Mac([2, 0, 0, 0, 0, 1])),
            kind: DeviceKind::Veth,
            master: None,
            xdp: None,
            abilities: Abilities::default(),
        }))
    }

    fn neighbour(state: NeighbourState) -> Neighbour {
        Neighbour {
            state,
            fixed: false,
            managed: true,
            ours: true,
        }
    }

    fn followed() -> View {
        let mut view = View::default();
        view.apply(ethernet());
        let source = Some(ip("10.0.0.1"));
        let route = Route {
            ifindex: 2,
            gateway: None,
            source,
            mtu: None,
            local: false,
        };
        view.set_route(ip("10.0.0.2"), Some(route));
        view
    }

    #[test]
    fn a_neighbour_that_moves_to_another_card_is_a_new_snapshot() {
        let mut view = followed();
        let key = (2, ip("10.0.0.2"));
        assert_eq!(view.wanted_neighbours(), BTreeSet::from([key]));
        assert_eq!(view.snapshot().next_hops[&key.1], Err(NoNextHop::Resolving));
        for mac in [Mac([2, 0, 0, 0, 0, 8]), Mac([2, 0, 0, 0, 0, 9])] {
            let state = NeighbourState::Usable(Some(mac));
            let touched = view.apply(Event::Neighbour(key, neighbour(state)));
            // The first is waited for, the second can wait for what else changes.
            let expected = match mac {
                Mac([.., 8]) => Touched::Way,
                _ => Touched::Snapshot,
            };
            assert_eq!(touched, expected);
            assert_eq!(
                view.snapshot().next_hops[&key.1].map(|hop| hop.mac),
                Ok(mac)
            );
        }
        let other = (2, ip("10.0.0.3"));
        let usable = neighbour(NeighbourState::Usable(Some(Mac([2, 0, 0, 0, 0, 3]))));
        let touched = view.apply(Event::Neighbour(other, usable));
        assert_eq!(touched, Touched::Snapshot, "nobody waits for that one");
        assert_eq!(view.apply(Event::NeighbourGone(key)), Touched::Snapshot);
        assert_eq!(view.snapshot().next_hops[&key.1], Err(NoNextHop::Resolving));
    }

    #[test]
    fn a_device_that_goes_takes_its_neighbours_along() {
        let mut view = followed();
        let key = (2, ip("10.0.0.2"));
        view.apply(Event::Neighbour(key, neighbour(NeighbourState::Resolving)));
        assert_eq!(
            view.apply(Event::Host(Change::DeviceGone(2))),
            Touched::Routes
        );
        assert!(view.neighbours.is_empty());
        assert!(view.wanted_neighbours().is_empty());
        assert_eq!(view.snapshot().next_hops[&key.1], Err(NoNextHop::NoRoute));
    }

    #[test]
    fn what_is_heard_twice_touches_nothing() {
        let mut view = followed();
        assert_eq!(view.apply(ethernet()), Touched::Nothing);
        assert_eq!(
            view.apply(Event::NeighbourGone((2, ip("10.0.0.7")))),
            Touched::Nothing
        );
    }

    #[test]
    fn a_full_list_forgets_what_it_does_not_name() {
        let mut view = followed();
        let key = (2, ip("10.0.0.2"));
        view.apply(Event::Neighbour(key, neighbour(NeighbourState::Failed)));
        view.replace(vec![
            ethernet(),
            Event::Neighbour(key, neighbour(NeighbourState::Resolving)),
        ]);
        assert_eq!(view.snapshot().next_hops[&key.1], Err(NoNextHop::Failed));
        view.replace(vec![]);
        assert!(view.snapshot().devices.is_empty());
        assert_eq!(view.snapshot().next_hops[&key.1], Err(NoNextHop::NoRoute));
    }

    #[test]
    fn a_destination_that_is_not_followed_any_more_has_no_next_hop() {
        let mut view = followed();
        view.keep_routes(&BTreeSet::new());
        assert!(view.snapshot().next_hops.is_empty());
        assert!(view.wanted_neighbours().is_empty());
    }
}
