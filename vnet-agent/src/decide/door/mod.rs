//! Which door is right for a device, and why?
//!
//! Input: what the settings say, what the kernel tells of the device, what its frames have shown
//! and what they mostly are. Output: a [`Pick`] for each device. Where a frame could break, TC it
//! is: that is right for every frame. XDP is for devices of which it is known that their frames
//! are complete.

pub mod mix;

use std::collections::BTreeMap;

use vnet_common::table::port::PortState;

use crate::model::door::{Door, DoorChoice, Pick, Picks, Refusal};
use crate::model::host::{Device, DeviceKind};
use mix::Mix;

/// A guest that may still ask for offloads has asked for none when it has sent so many frames
/// without: firmware sends some before the guest's own driver speaks. One that sends fewer has
/// nothing to gain by XDP.
const PLAIN_FRAMES_MIN: u64 = 1000;

/// What is known of a port.
#[derive(Clone, Copy, Debug)]
pub struct PortFacts<'a> {
    /// What the settings say.
    pub choice: DoorChoice,
    /// Its device.
    pub device: &'a Device,
    /// Its network, by name: its frames go to other ports of that.
    pub network: &'a str,
    /// The door that it has now.
    pub before: Option<Door>,
    /// What its frames have shown (`PortState::shown`).
    pub shown: u32,
    /// What its frames mostly are, since its guest last asked for anything.
    pub mix: Mix,
    /// Why XDP could not be attached, where it was tried.
    pub xdp_fails: Option<&'a str>,
}

/// What is known of the underlay device.
#[derive(Clone, Copy, Debug)]
pub struct UnderlayFacts<'a> {
    /// What the settings say.
    pub choice: DoorChoice,
    /// The device.
    pub device: &'a Device,
    /// Why XDP could not be attached, where it was tried.
    pub xdp_fails: Option<&'a str>,
    /// Why TC could not be attached behind XDP, where it was tried.
    pub tc_fails: Option<&'a str>,
    /// Why the kernel has no socket by which it could join packets of the overlay, where it was tried.
    pub joiner_fails: Option<&'a str>,
}

/// The doors of all devices.
///
/// Where the agent carries links (`carries`), its tap has frames that are to be segmented.
pub fn picks(underlay: Option<UnderlayFacts<'_>>, ports: &[PortFacts<'_>], carries: bool) -> Picks {
    let mut picked = underlay.map(|facts| underlay_pick(&facts));
    let wire = picked.as_ref().map(|pick| pick.door);
    let mut port_picks: BTreeMap<u32, Pick> = ports
        .iter()
        .map(|facts| {
            let deaf = deaf_target(facts, underlay.as_ref(), ports);
            (facts.device.index, port_pick(facts, deaf, wire))
        })
        .collect();
    if let Some(pick) = &mut picked {
        pick.joins |= port_picks.values().any(|port| port.joins);
        let failure = underlay.and_then(|facts| facts.tc_fails);
        if let Some(why) =
            failure.filter(|_| pick.door == Door::Xdp && pick.joins && !ports.iter().any(is_deaf))
        {
            pick.joins = false;
            pick.why = format!("{}; frames are not joined, for tc fails: {why}", pick.why);
            port_picks.values_mut().for_each(|port| port.joins = false);
        }
    }
    let all_xdp = !carries
        && port_picks
            .values()
            .chain(&picked)
            .all(|pick| pick.door == Door::Xdp);
    Picks {
        underlay: picked,
        ports: port_picks,
        agent: Some(if all_xdp { Door::Xdp } else { Door::Tc }),
    }
}

/// Whether XDP programs can redirect frames into the device. Where the kernel does not say (before
/// 6.3), all but a veth can: that needs something at its other end.
fn takes_redirects(device: &Device) -> bool {
    let told = device.abilities.takes_redirects;
    told.unwrap_or(device.kind != DeviceKind::Veth)
}

/// What XDP on the underlay cannot redirect at once into a port has to be passed up in any case.
fn is_deaf(facts: &PortFacts<'_>) -> bool {
    // Where the kernel does not say, who forces XDP has seen to the device's other end.
    let is_vouched_for =
        facts.choice == DoorChoice::Xdp && facts.device.abilities.takes_redirects.is_none();
    !takes_redirects(facts.device) && !is_vouched_for
}

/// A device that this port's frames go to, and that XDP cannot redirect into.
fn deaf_target<'a>(
    facts: &PortFacts<'_>,
    underlay: Option<&UnderlayFacts<'a>>,
    ports: &[PortFacts<'a>],
) -> Option<&'a Device> {
    let neighbours = ports
        .iter()
        .filter(|other| other.network == facts.network && other.device.index != facts.device.index);
    underlay
        .map(|underlay| underlay.device)
        .into_iter()
        .chain(neighbours.map(|other| other.device))
        .find(|device| !takes_redirects(device))
}

fn port_pick(facts: &PortFacts<'_>, deaf: Option<&Device>, wire: Option<Door>) -> Pick {
    let mut pick = port_door(facts, deaf);
    let device = facts.device;
    let is_tc = pick.door == Door::Tc;
    let pays = is_tc && device.abilities.segments && !facts.mix.gets_small();
    pick.joins = wire == Some(Door::Xdp) && (pays || is_deaf(facts));
    pick.direct = is_tc && device.kind == DeviceKind::Veth && device.abilities.is_elsewhere;
    pick
}

fn port_door(facts: &PortFacts<'_>, deaf: Option<&Device>) -> Pick {
    let broken = what_xdp_breaks(facts);
    match (facts.choice, broken) {
        (DoorChoice::Tc, _) => Pick::new(Door::Tc, "the settings say so"),
        (DoorChoice::Xdp, None) => Pick::new(Door::Xdp, forced_xdp(facts, deaf)),
        (DoorChoice::Xdp, Some(why)) => Pick {
            refusal: Some(Refusal {
                message: format!("door = \"xdp\" would break its frames: {why}; tc is used"),
                cure: cure(facts.device),
            }),
            ..Pick::new(Door::Tc, format!("xdp would break its frames: {why}"))
        },
        (DoorChoice::Auto, Some(why)) => Pick::new(Door::Tc, why),
        (DoorChoice::Auto, None) => match what_speaks_against_xdp(facts, deaf) {
            Some(why) => Pick::new(Door::Tc, why),
            None => Pick::new(Door::Xdp, "its guest sends complete frames"),
        },
    }
}

/// Why frames of this port would arrive broken through XDP.
fn what_xdp_breaks(facts: &PortFacts<'_>) -> Option<String> {
    let abilities = &facts.device.abilities;
    let shown = |bit| facts.shown & bit != 0;
    if shown(PortState::SEGMENTS) {
        Some("its frames are left to be cut into segments".to_owned())
    } else if shown(PortState::UNFINISHED) {
        Some("the checksums of its frames are left to be finished".to_owned())
    } else if facts.device.kind == DeviceKind::Tap && abilities.vnet_header && abilities.offloads()
    {
        let what = match (abilities.checksums, abilities.segments) {
            (true, true) => "checksums and segmentation",
            (true, false) => "checksums",
            _ => "segmentation",
        };
        Some(format!("its guest has agreed on offloads ({what})"))
    } else {
        None
    }
}

/// What to do so that XDP can be used all the same.
fn cure(device: &Device) -> String {
    let how = match device.kind {
        DeviceKind::Tap => {
            "start its VM with the device's offloads off (QEMU: csum=off,gso=off,host_tso4=off,\
             host_tso6=off,host_ufo=off,guest_csum=off,guest_tso4=off,guest_tso6=off,guest_ufo=off)"
        }
        _ => "`ethtool -K eth0 tx off` in the guest, and then start the agent again",
    };
    format!("{how}, or leave it to the agent: door = \"auto\"")
}

/// What an admin should know who forces XDP.
fn forced_xdp(facts: &PortFacts<'_>, deaf: Option<&Device>) -> String {
    if let Some(deaf) = deaf {
        let name = &deaf.name;
        format!(
            "the settings say so; but {name} takes nothing that xdp redirects: switch GRO on at \
             its other end"
        )
    } else if facts.device.kind == DeviceKind::Tap {
        "the settings say so".to_owned()
    } else {
        "the settings say so; its guest must finish checksums itself: `ethtool -K eth0 tx off` \
         there"
            .to_owned()
    }
}

/// Why XDP, which may break nothing, is not the better choice.
fn what_speaks_against_xdp(facts: &PortFacts<'_>, deaf: Option<&Device>) -> Option<String> {
    let device = facts.device;
    let may_ask = device.abilities.vnet_header && facts.before != Some(Door::Xdp);
    match &device.kind {
        DeviceKind::Veth => Some("a veth does not tell what its guest leaves to others".to_owned()),
        DeviceKind::Tap if let Some(why) = facts.xdp_fails => Some(format!("xdp fails: {why}")),
        DeviceKind::Tap if let Some(deaf) = deaf => {
            Some(format!("{} takes nothing that xdp redirects", deaf.name))
        }
        DeviceKind::Tap if may_ask && facts.mix.frames() < PLAIN_FRAMES_MIN => {
            Some("its guest may still agree on offloads".to_owned())
        }
        DeviceKind::Tap if facts.mix.sends_huge() => {
            Some("its guest mostly sends frames larger than a page".to_owned())
        }
        DeviceKind::Tap => None,
        other => Some(format!(
            "frames of a device like this ({other}) may be unfinished"
        )),
    }
}

fn underlay_pick(facts: &UnderlayFacts<'_>) -> Pick {
    let mut pick = underlay_door(facts);
    if pick.door == Door::Xdp {
        return pick;
    }
    let not = match (facts.device.abilities.joins, facts.joiner_fails) {
        (true, None) => {
            pick.joins = true;
            return pick;
        }
        (true, Some(why)) => why.to_owned(),
        // A veth's other end leaves frames whole, mostly.
        (false, _) if facts.device.kind == DeviceKind::Veth => return pick,
        (false, _) => {
            let name = &facts.device.name;
            format!("GRO is off there (`ethtool -K {name} gro on`)")
        }
    };
    pick.why = format!("{}; frames are not joined: {not}", pick.why);
    pick
}

fn underlay_door(facts: &UnderlayFacts<'_>) -> Pick {
    let device = facts.device;
    let is_veth = device.kind == DeviceKind::Veth;
    match facts.choice {
        DoorChoice::Tc => Pick::new(Door::Tc, "the settings say so"),
        DoorChoice::Xdp if is_veth => Pick::new(
            Door::Xdp,
            "the settings say so; on a veth that costs its other end segmentation, and breaks \
             packets whose checksums that end leaves unfinished",
        ),
        DoorChoice::Xdp => Pick::new(Door::Xdp, "the settings say so"),
        DoorChoice::Auto if is_veth => Pick::new(
            Door::Tc,
            "a veth hands over packets that are joined or unfinished",
        ),
        DoorChoice::Auto => match (facts.xdp_fails, device.abilities.native_xdp) {
            (Some(why), _) => Pick::new(Door::Tc, format!("xdp fails: {why}")),
            (None, Some(false)) => Pick::new(Door::Tc, "its driver runs no XDP programs"),
            (None, Some(true)) => Pick::new(Door::Xdp, "its driver runs XDP programs"),
            (None, None) => Pick::new(Door::Xdp, "its packets are complete"),
        },
    }
}

#[cfg(test)]
mod tests;
