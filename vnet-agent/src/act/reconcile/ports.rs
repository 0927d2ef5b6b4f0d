//! The ports that should be, and the MTUs that their devices get.
//!
//! Input: the devices that port entries take in. Output: their entries, the programs on them, and
//! what of it must wait.

use vnet_common::addr::Mac;
use vnet_common::table::port::{ADDRESSES_MAX, PortEntry};

use super::desired::{Desired, Fault, Networks, Surroundings, no_room};
use super::image::Image;
use super::slots::Slots;
use crate::model::attachment::{Attachment, Role};
use crate::model::door::{Door, Pick};
use crate::model::host::{Device, DeviceKind};
use crate::model::{Addresses, Configuration, DeviceMatch, Port};

/// The smallest MTU that IPv4 allows a link (RFC 791, section 3.2).
const MTU_MIN: u32 = 68;
/// An Ethernet header and one VLAN tag: what a device takes beyond its MTU.
const LINK_LAYER_BYTES_MAX: u32 = 18;

pub(super) fn ports(
    wanted: &Configuration,
    given: &Surroundings<'_>,
    now: &Image,
    networks: &Networks<'_>,
    slots: &mut Slots<'_>,
    desired: &mut Desired,
) {
    for taken in given.devices {
        let (Some(port), Some(device)) = (
            wanted.ports.get(taken.port),
            given.host.device_named(&taken.name),
        ) else {
            continue;
        };
        let Some(&(network, network_slot)) = networks.get(port.network.as_str()) else {
            continue;
        };
        let before = now.ports.get(&device.index);
        let subject = format!("port {}", device.name);
        let room = desired.image.ports.len() < usize::try_from(wanted.limits.ports).unwrap_or(0);
        let ledger = slots
            .ledger(before.map(|entry| entry.ledger))
            .filter(|_| room);
        let Some(ledger) = ledger else {
            desired.faults.push(no_room(subject, "ports"));
            continue;
        };
        let pick = given.picks.ports.get(&device.index);
        if let Some(refusal) = pick.and_then(|pick| pick.refusal.as_ref()) {
            desired.faults.push(Fault::new(
                format!("door of {}", device.name),
                &refusal.message,
                &refusal.cure,
            ));
        }
        let mtu_before = mtu(port, device, before, desired);
        let entry = PortEntry {
            network,
            network_slot,
            ledger,
            flags: source_flags(&port.addresses) | manners(pick),
            frame_bytes_max: device.mtu.saturating_add(LINK_LAYER_BYTES_MAX),
            mtu_before,
            slow_path_cost_ns: 1_000_000_000 / port.slow_path_rate.max(1),
            slow_path_burst_ns: burst_ns(port),
            addresses: listed(&port.addresses),
            _pad: [0; 8],
        };
        desired.image.ports.insert(device.index, entry);
        desired.image.attachments.insert(Attachment::new(
            Role::Port,
            device.index,
            pick.map_or(Door::Tc, |pick| pick.door),
        ));
    }
    // To attach a program takes the kernel longer than all else that a port needs. Until its network is
    // there, it drops the guest's frames, and counts them.
    desired.image.attachments.extend(given.early);
    let_go(given, now, desired);
    for port in &wanted.ports {
        if let DeviceMatch::Name(name) = &port.device
            && given.host.device_named(name).is_none()
        {
            let absent = Fault::new(
                format!("port {name}"),
                "there is no such device",
                "start its VM; the agent takes it in as soon as it appears",
            );
            desired.faults.push(absent.waiting());
        }
    }
}

/// Says which MTU the device should get, if the agent is to set it, and returns the one to put
/// back later (0 where the agent sets none).
///
/// A veth keeps its own: the kernel measures what the guest sends against the MTU of this end, and
/// drops in silence what would else be answered here and counted.
fn mtu(port: &Port, device: &Device, before: Option<&PortEntry>, desired: &mut Desired) -> u32 {
    if desired.underlay.is_none() {
        // What guests may use is not known now, which does not make it more.
        return kept(before);
    }
    let wanted = desired.guest_mtus.get(&port.network);
    let Some(&wanted) = wanted.filter(|_| port.set_mtu && device.kind != DeviceKind::Veth) else {
        return put_back(device, before, desired);
    };
    if wanted < MTU_MIN {
        desired.faults.push(Fault::new(
            format!("port {}", device.name),
            format!("the underlay's MTU leaves {wanted} bytes to guests, too few for IP"),
            "raise the underlay's MTU",
        ));
        return kept(before);
    }
    let mtu_before = match kept(before) {
        0 => device.mtu,
        earlier => earlier,
    };
    if device.mtu != wanted {
        desired.mtus.insert(device.index, wanted);
    }
    mtu_before
}

/// The agent sets the MTU no more: the earlier one is put back, and remembered until it is there.
fn put_back(device: &Device, before: Option<&PortEntry>, desired: &mut Desired) -> u32 {
    match kept(before) {
        0 => 0,
        earlier if earlier == device.mtu => 0,
        earlier => {
            desired.mtus.insert(device.index, earlier);
            earlier
        }
    }
}

/// Devices that are no ports any more get back the MTU that they had.
fn let_go(given: &Surroundings<'_>, now: &Image, desired: &mut Desired) {
    for (index, before) in &now.ports {
        let Some(device) = given.host.devices.get(index) else {
            continue;
        };
        let is_port = desired.image.ports.contains_key(index);
        if !is_port && before.mtu_before != 0 && before.mtu_before != device.mtu {
            desired.mtus_before.insert(*index, before.mtu_before);
        }
    }
}

fn kept(before: Option<&PortEntry>) -> u32 {
    before.map_or(0, |entry| entry.mtu_before)
}

fn source_flags(addresses: &Addresses) -> u32 {
    match addresses {
        Addresses::Only(_) => 0,
        Addresses::Learn => PortEntry::LEARN,
        Addresses::Any => PortEntry::ANY_SOURCE,
    }
}

/// How frames go into the port.
fn manners(pick: Option<&Pick>) -> u32 {
    let flag = |is: bool, flag: u32| if is { flag } else { 0 };
    pick.map_or(0, |pick| {
        flag(pick.joins, PortEntry::JOIN) | flag(pick.direct, PortEntry::DIRECT)
    })
}

fn listed(addresses: &Addresses) -> [Mac; ADDRESSES_MAX] {
    let mut listed = [Mac::ZERO; ADDRESSES_MAX];
    if let Addresses::Only(addresses) = addresses {
        for (place, address) in listed.iter_mut().zip(addresses) {
            *place = *address;
        }
    }
    listed
}

fn burst_ns(port: &Port) -> u32 {
    let burst = u64::from(port.slow_path_burst.max(1)) * 1_000_000_000
        / u64::from(port.slow_path_rate.max(1));
    u32::try_from(burst).unwrap_or(u32::MAX)
}
