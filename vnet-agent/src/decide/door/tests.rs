//! One line a case: what is known, and what follows.

use vnet_common::table::ledger::Tally;

use super::*;
use crate::model::host::Abilities;

fn device(index: u32, kind: DeviceKind, abilities: Abilities) -> Device {
    Device {
        index,
        name: format!("device{index}"),
        up: true,
        running: true,
        mtu: 1500,
        mtu_max: None,
        mac: None,
        kind,
        master: None,
        xdp: None,
        abilities,
    }
}

const PLAIN: Abilities = Abilities {
    vnet_header: false,
    checksums: false,
    segments: false,
    joins: false,
    native_xdp: Some(true),
    takes_redirects: Some(true),
    is_elsewhere: false,
};
const HEADER: Abilities = Abilities {
    vnet_header: true,
    ..PLAIN
};
const OFFLOADS: Abilities = Abilities {
    checksums: true,
    segments: true,
    ..HEADER
};
const DEAF: Abilities = Abilities {
    takes_redirects: Some(false),
    is_elsewhere: true,
    ..PLAIN
};

fn facts(device: &Device) -> PortFacts<'_> {
    PortFacts {
        choice: DoorChoice::Auto,
        device,
        network: "blue",
        before: None,
        shown: 0,
        mix: Mix::default(),
        xdp_fails: None,
    }
}

fn wire(device: &Device) -> UnderlayFacts<'_> {
    UnderlayFacts {
        choice: DoorChoice::Auto,
        device,
        xdp_fails: None,
        tc_fails: None,
        joiner_fails: None,
    }
}

/// A guest whose frames have this length in both directions, long enough to be a habit.
fn mix(bytes: u64) -> Mix {
    let mut mix = Mix::default();
    for second in 1..10 {
        let packets = second * 10_000;
        let tally = Tally {
            packets,
            bytes: packets * bytes,
        };
        mix.look(tally, tally, 1000);
    }
    mix
}

/// The pick for one port on a host with a network card.
fn pick(facts: PortFacts<'_>) -> Pick {
    let card = device(2, DeviceKind::Hardware, PLAIN);
    let index = facts.device.index;
    picks(Some(wire(&card)), &[facts], false)
        .ports
        .remove(&index)
        .unwrap()
}

#[test]
fn the_door_of_a_port_follows_from_what_is_known() {
    use Door::{Tc, Xdp};
    use DoorChoice as Choice;
    let tap = device(10, DeviceKind::Tap, PLAIN);
    let may_ask = device(10, DeviceKind::Tap, HEADER);
    let asks = device(10, DeviceKind::Tap, OFFLOADS);
    let veth = device(10, DeviceKind::Veth, PLAIN);
    let bridge = device(10, DeviceKind::Bridge, PLAIN);
    let all_shown = PortState::SEGMENTS | PortState::UNFINISHED;
    let of = |device| facts(device);
    for (case, facts, door, why) in [
        ("no header", of(&tap), Xdp, "sends complete frames"),
        (
            "header, new",
            of(&may_ask),
            Tc,
            "may still agree on offloads",
        ),
        (
            "header, many plain frames",
            PortFacts {
                mix: mix(1400),
                ..of(&may_ask)
            },
            Xdp,
            "sends complete frames",
        ),
        (
            "header, plain for an earlier agent",
            PortFacts {
                before: Some(Xdp),
                ..of(&may_ask)
            },
            Xdp,
            "sends complete frames",
        ),
        (
            "offloads",
            of(&asks),
            Tc,
            "agreed on offloads (checksums and segmentation)",
        ),
        (
            "offloads, though plain before",
            PortFacts {
                before: Some(Xdp),
                mix: mix(64),
                ..of(&asks)
            },
            Tc,
            "agreed on offloads",
        ),
        (
            "unfinished frames",
            PortFacts {
                shown: PortState::UNFINISHED,
                ..of(&tap)
            },
            Tc,
            "left to be finished",
        ),
        (
            "joined frames",
            PortFacts {
                shown: all_shown,
                before: Some(Tc),
                ..of(&may_ask)
            },
            Tc,
            "left to be cut into segments",
        ),
        ("veth", of(&veth), Tc, "does not tell"),
        ("bridge", of(&bridge), Tc, "(bridge) may be unfinished"),
        (
            "XDP does not attach",
            PortFacts {
                xdp_fails: Some("it is taken"),
                ..of(&tap)
            },
            Tc,
            "xdp fails: it is taken",
        ),
        (
            "jumbo frames",
            PortFacts {
                mix: mix(8000),
                ..of(&tap)
            },
            Tc,
            "larger than a page",
        ),
        (
            "tc, forced",
            PortFacts {
                choice: Choice::Tc,
                ..of(&tap)
            },
            Tc,
            "the settings say so",
        ),
        (
            "xdp, forced",
            PortFacts {
                choice: Choice::Xdp,
                ..of(&may_ask)
            },
            Xdp,
            "the settings",
        ),
        (
            "xdp, forced on a veth",
            PortFacts {
                choice: Choice::Xdp,
                ..of(&veth)
            },
            Xdp,
            "`ethtool -K eth0 tx off` there",
        ),
    ] {
        let pick = pick(facts);
        assert_eq!(pick.door, door, "{case}: {pick:?}");
        assert!(pick.why.contains(why), "{case}: {pick:?}");
        assert_eq!(pick.refusal, None, "{case}");
    }
}

#[test]
fn a_forced_door_that_breaks_frames_is_refused() {
    let asks = device(10, DeviceKind::Tap, OFFLOADS);
    let veth = device(10, DeviceKind::Veth, PLAIN);
    let unfinished = PortFacts {
        shown: PortState::UNFINISHED,
        ..facts(&veth)
    };
    for (facts, message, cure) in [
        (facts(&asks), "agreed on offloads", "csum=off"),
        (
            unfinished,
            "left to be finished",
            "`ethtool -K eth0 tx off` in the guest",
        ),
    ] {
        let forced = PortFacts {
            choice: DoorChoice::Xdp,
            ..facts
        };
        let pick = pick(forced);
        assert_eq!(pick.door, Door::Tc);
        let refusal = pick.refusal.unwrap();
        assert!(
            refusal
                .message
                .starts_with("door = \"xdp\" would break its frames: ")
        );
        assert!(
            refusal.message.contains(message) && refusal.cure.contains(cure),
            "{refusal:?}"
        );
    }
}

#[test]
fn a_device_that_xdp_cannot_redirect_into_keeps_its_neighbours_at_tc() {
    let tap = device(10, DeviceKind::Tap, PLAIN);
    let card = device(2, DeviceKind::Hardware, PLAIN);
    let cable = device(2, DeviceKind::Veth, DEAF);
    let veth = device(11, DeviceKind::Veth, DEAF);
    let unknown = device(11, DeviceKind::Veth, Abilities::default());
    let other = PortFacts {
        network: "green",
        ..facts(&veth)
    };
    let door = |wire_device, neighbours: &[PortFacts<'_>]| {
        let ports: Vec<_> = [facts(&tap)]
            .into_iter()
            .chain(neighbours.iter().copied())
            .collect();
        picks(Some(wire(wire_device)), &ports, false).ports[&10].clone()
    };
    assert_eq!(door(&card, &[]).door, Door::Xdp);
    for (pick, name) in [
        (door(&card, &[facts(&veth)]), "device11"),
        (door(&card, &[facts(&unknown)]), "device11"),
        (door(&cable, &[]), "device2"),
    ] {
        assert_eq!(pick.door, Door::Tc);
        assert_eq!(pick.why, format!("{name} takes nothing that xdp redirects"));
    }
    assert_eq!(
        door(&card, &[other]).door,
        Door::Xdp,
        "its frames go elsewhere"
    );
}

#[test]
fn frames_are_joined_for_guests_that_take_them_unless_they_get_small_ones() {
    let card = device(2, DeviceKind::Hardware, PLAIN);
    let asks = device(10, DeviceKind::Tap, OFFLOADS);
    let tap = device(10, DeviceKind::Tap, PLAIN);
    let veth = device(10, DeviceKind::Veth, DEAF);
    let joins = |choice, facts| {
        let underlay = UnderlayFacts {
            choice,
            ..wire(&card)
        };
        let picks = picks(Some(underlay), &[facts], false);
        let port = picks.ports[&10].joins;
        assert_eq!(picks.underlay.unwrap().joins, port, "where one joins");
        port
    };
    let auto = DoorChoice::Auto;
    assert!(joins(auto, facts(&asks)));
    assert!(joins(
        auto,
        PortFacts {
            mix: mix(1400),
            ..facts(&asks)
        }
    ));
    assert!(!joins(
        auto,
        PortFacts {
            mix: mix(64),
            ..facts(&asks)
        }
    ));
    assert!(!joins(DoorChoice::Tc, facts(&asks)), "TC passes nothing up");
    assert!(!joins(auto, facts(&tap)), "it could not take them");
    assert!(joins(auto, facts(&veth)), "there is no other way into it");
}

#[test]
fn joining_is_given_up_where_tc_fails_unless_there_is_no_other_way() {
    let card = device(2, DeviceKind::Hardware, PLAIN);
    let asks = device(10, DeviceKind::Tap, OFFLOADS);
    let veth = device(11, DeviceKind::Veth, DEAF);
    let underlay = UnderlayFacts {
        tc_fails: Some("it is taken"),
        ..wire(&card)
    };
    let given_up = picks(Some(underlay), &[facts(&asks)], false);
    let wire = given_up.underlay.unwrap();
    assert_eq!((wire.door, wire.joins), (Door::Xdp, false));
    assert!(wire.why.ends_with("tc fails: it is taken"), "{}", wire.why);
    assert!(!given_up.ports[&10].joins);

    let needed = picks(Some(underlay), &[facts(&asks), facts(&veth)], false);
    assert!(needed.underlay.unwrap().joins);
    assert!(needed.ports[&10].joins && needed.ports[&11].joins);

    let unasked = picks(Some(underlay), &[], false).underlay.unwrap();
    assert_eq!(unasked.why, "its driver runs XDP programs");
}

#[test]
fn at_tc_the_kernel_joins_where_it_can_and_status_says_where_it_cannot() {
    let joining = Abilities {
        joins: true,
        ..PLAIN
    };
    let kinds = [DeviceKind::Hardware, DeviceKind::Veth];
    let [card, veth] = kinds.clone().map(|kind| device(2, kind, joining));
    let [old_card, old_veth] = kinds.map(|kind| device(2, kind, PLAIN));
    let guest = device(10, DeviceKind::Tap, OFFLOADS);
    for (device, fails, joins, why) in [
        (&card, None, true, "the settings say so"),
        (&veth, None, true, "the settings say so"),
        (
            &veth,
            Some("no"),
            false,
            "the settings say so; frames are not joined: no",
        ),
        (&old_veth, None, false, "the settings say so"),
        (
            &old_card,
            Some("no"),
            false,
            "the settings say so; frames are not joined: GRO is off there (`ethtool -K device2 gro on`)",
        ),
    ] {
        let underlay = UnderlayFacts {
            choice: DoorChoice::Tc,
            joiner_fails: fails,
            ..wire(device)
        };
        let picks = picks(Some(underlay), &[facts(&guest)], false);
        let wire = picks.underlay.unwrap();
        assert_eq!((wire.joins, wire.why.as_str()), (joins, why));
        assert!(!picks.ports[&10].joins, "nothing is passed up for it");
    }
}

#[test]
fn a_veth_is_handed_frames_where_its_other_end_is_elsewhere() {
    let here = device(10, DeviceKind::Veth, PLAIN);
    let there = device(10, DeviceKind::Veth, DEAF);
    assert!(!pick(facts(&here)).direct);
    assert!(pick(facts(&there)).direct);
    let forced = PortFacts {
        choice: DoorChoice::Xdp,
        ..facts(&there)
    };
    assert!(!pick(forced).direct);
}

#[test]
fn the_underlay_and_the_agents_tap_have_doors_of_their_own() {
    use DoorChoice::{Auto, Tc, Xdp};
    let card = device(2, DeviceKind::Hardware, PLAIN);
    let veth = device(2, DeviceKind::Veth, PLAIN);
    let slow = Abilities {
        native_xdp: Some(false),
        ..PLAIN
    };
    let old = device(2, DeviceKind::Hardware, slow);
    let tap = device(10, DeviceKind::Tap, PLAIN);
    let asks = device(10, DeviceKind::Tap, OFFLOADS);
    for (device, choice, port, fails, expected, agent) in [
        (&card, Auto, &tap, None, Door::Xdp, Door::Xdp),
        (&card, Auto, &asks, None, Door::Xdp, Door::Tc),
        (&card, Auto, &tap, Some("no"), Door::Tc, Door::Tc),
        (&old, Auto, &tap, None, Door::Tc, Door::Tc),
        (&veth, Auto, &tap, None, Door::Tc, Door::Tc),
        (&veth, Xdp, &tap, None, Door::Xdp, Door::Xdp),
        (&card, Tc, &tap, None, Door::Tc, Door::Tc),
    ] {
        let underlay = UnderlayFacts {
            choice,
            device,
            xdp_fails: fails,
            tc_fails: None,
            joiner_fails: None,
        };
        let picks = picks(Some(underlay), &[facts(port)], false);
        let door = picks.underlay.unwrap().door;
        assert_eq!(
            (door, picks.agent),
            (expected, Some(agent)),
            "{choice} {device:?}"
        );
    }
    assert_eq!(picks(None, &[], false).underlay, None);
}
