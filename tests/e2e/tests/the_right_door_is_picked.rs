//! The promise: the agent finds out which door is right for a device, says which and why, and
//! changes it when the guest changes, without losing a frame. A choice that would break frames is
//! refused, with the reason.

use anyhow::{Context, Result};
use e2e::frame::guest;
use e2e::settings::Settings;
use e2e::stage::{DEVICE, Family, PORT, address, link_to, name};
use e2e::stranger::Program;
use e2e::stream::during;
use e2e::{ask, books, signal};
use frames::build::build;
use frames::finish::unfinished;
use frames::stage::Stage;
use lab::{
    Agent, Host, Lab, Offloads, Station, TapGuest, TapSettings, Underlay, UnderlaySettings,
    Unfinished, VnetHeader, in_lab,
};
use vnet_agent::api::DoorStatus;
use vnet_agent::model::door::Door;

/// Frames that show how a guest sends, and some more.
const FRAMES: u64 = 3000;

/// What the agent says about a device's door.
fn door(host: &Host, device: &str) -> Result<DoorStatus> {
    let status = ask::status(host)?;
    let found = status
        .doors
        .iter()
        .find(|door| door.device == device)
        .cloned();
    found.with_context(|| format!("no door of {device} in {status:?}"))
}

fn until_door(host: &Host, device: &str, wanted: Door) -> Result<DoorStatus> {
    let is_so = |door: &DoorStatus| door.device == device && door.door == wanted;
    let status = ask::until(host, &format!("{device} has door {wanted}"), |status| {
        status.doors.iter().any(is_so)
    })?;
    let found = status.doors.into_iter().find(is_so);
    found.context("the door that was there")
}

/// What programs the kernel has on a device.
fn programs(host: &Host, device: &str) -> Result<Option<String>> {
    Ok(ask::interface(host, device)?.door)
}

struct Site {
    agent: Agent,
    guest: TapGuest,
    host: Host,
}

/// Two hosts with a guest each, whose taps are like this, and agents that choose for themselves
/// unless these lines say otherwise.
fn pair(
    lab: &Lab,
    offloads: Option<Offloads>,
    port: &str,
    wire: &str,
) -> Result<(Site, Site, Underlay)> {
    let underlay = lab.underlay(UnderlaySettings::default())?;
    let site = |own: u8| -> Result<Site> {
        let other = 3 - own;
        let host = lab.host(name(own))?;
        underlay.connect(&host, DEVICE)?;
        let tap = TapSettings {
            offloads,
            ..TapSettings::default()
        };
        let guest_here = host.tap_guest_with(PORT, guest(own), tap)?;
        let settings = Settings::on(&format!("device = \"{DEVICE}\"\n{wire}"))
            .port_with(PORT, &format!("addresses = [\"{}\"]\n{port}", guest(own)))
            .link(&link_to(other), &address(Family::Ipv4, other))
            .way(guest(other), &link_to(other))
            .flood();
        let agent = host.agent(&settings.text())?;
        Ok(Site {
            agent,
            guest: guest_here,
            host,
        })
    };
    let (one, two) = (site(1)?, site(2)?);
    Ok((one, two, underlay))
}

const AUTO: &str = "door = \"auto\"";

#[test]
fn a_tap_without_headers_has_the_xdp_door() {
    in_lab("plain", |lab| {
        let (one, two, _underlay) = pair(lab, None, AUTO, "door = \"xdp\"")?;
        let door = door(&one.host, PORT)?;
        assert_eq!(door.door, Door::Xdp, "{door:?}");
        assert_eq!(door.why, "its guest sends complete frames");
        assert_eq!(programs(&one.host, PORT)?.as_deref(), Some("xdp (native)"));
        ask::until_healthy(&one.host)?;
        ask::until_healthy(&two.host)?;
        let outcome = during(&one.guest, &two.guest, |stream| stream.flow_on(FRAMES))?;
        outcome.must_be_perfect(FRAMES)?;
        Ok(())
    });
}

#[test]
fn a_veth_and_a_guest_with_offloads_have_the_tc_door() {
    in_lab("offloads", |lab| {
        let (one, two, _underlay) = pair(lab, Some(Offloads::ALL), AUTO, AUTO)?;
        for site in [&one, &two] {
            ask::until_healthy(&site.host)?;
            let port = door(&site.host, PORT)?;
            assert_eq!(port.door, Door::Tc, "{port:?}");
            assert!(port.why.contains("agreed on offloads"), "{port:?}");
            assert_eq!(programs(&site.host, PORT)?.as_deref(), Some("tc"));
            let wire = door(&site.host, DEVICE)?;
            assert_eq!((wire.door, wire.joins), (Door::Tc, false), "{wire:?}");
            assert_eq!(programs(&site.host, DEVICE)?.as_deref(), Some("tc"));
        }
        let outcome = during(&one.guest, &two.guest, |stream| stream.flow_on(FRAMES))?;
        outcome.must_be_perfect(FRAMES)?;
        Ok(())
    });
}

#[test]
fn the_door_follows_the_guest_and_no_frame_is_lost() {
    in_lab("follows", |lab| {
        let (one, two, _underlay) = pair(lab, Some(Offloads::NONE), AUTO, "door = \"xdp\"")?;
        let new = door(&one.host, PORT)?;
        assert_eq!(
            new.door,
            Door::Tc,
            "it may still agree on offloads: {new:?}"
        );
        ask::until_healthy(&one.host)?;
        ask::until_healthy(&two.host)?;
        let outcome = during(&one.guest, &two.guest, |stream| {
            stream.flow_on(FRAMES)?;
            until_door(&one.host, PORT, Door::Xdp)?;
            for _ in 0..3 {
                one.guest.set_offloads(Offloads::ALL)?;
                two.guest.set_offloads(Offloads::ALL)?;
                let door = until_door(&one.host, PORT, Door::Tc)?;
                assert!(door.why.contains("agreed on offloads"), "{door:?}");
                until_door(&two.host, PORT, Door::Tc)?;
                ask::until(&two.host, "frames are joined for two", |status| {
                    status.doors.iter().all(|door| door.joins)
                })?;
                stream.flow_on(FRAMES)?;
                one.guest.set_offloads(Offloads::NONE)?;
                two.guest.set_offloads(Offloads::NONE)?;
                until_door(&one.host, PORT, Door::Xdp)?;
                ask::until(&two.host, "frames are not joined for two", |status| {
                    status.doors.iter().all(|door| !door.joins)
                })?;
                stream.flow_on(FRAMES)?;
            }
            Ok(())
        })?;
        outcome.must_be_perfect(7 * FRAMES)?;
        let stats = [books::check_host(&one.host)?, books::check_host(&two.host)?];
        books::check_pair(&stats[0], "to-two", &stats[1], "to-one")?;
        Ok(())
    });
}

#[test]
fn a_forced_door_that_would_break_frames_is_refused() {
    in_lab("refused", |lab| {
        let (one, two, _underlay) = pair(lab, Some(Offloads::ALL), "door = \"xdp\"", AUTO)?;
        let port = until_door(&one.host, PORT, Door::Tc)?;
        assert!(
            port.why.starts_with("xdp would break its frames"),
            "{port:?}"
        );
        let status = ask::status(&one.host)?;
        assert!(!status.healthy, "{status:?}");
        let problem = status
            .problems
            .iter()
            .find(|problem| problem.subject == "door of tap0");
        let problem = problem.with_context(|| format!("{:?}", status.problems))?;
        assert!(
            problem.message.contains("agreed on offloads"),
            "{problem:?}"
        );
        assert!(
            problem
                .cure
                .as_ref()
                .is_some_and(|cure| cure.contains("csum=off")),
            "{problem:?}"
        );
        let outcome = during(&one.guest, &two.guest, |stream| stream.flow_on(FRAMES))?;
        outcome.must_be_perfect(FRAMES)?;
        // The cure.
        one.guest.set_offloads(Offloads::NONE)?;
        until_door(&one.host, PORT, Door::Xdp)?;
        ask::until_healthy(&one.host)?;
        Ok(())
    });
}

/// A TCP segment to the guest with this number, its checksum left to the NIC.
fn unfinished_segment(to: u8) -> Result<(VnetHeader, Vec<u8>)> {
    let layers = [
        format!("ethernet {} -> {}", guest(1), guest(to)),
        format!("ipv4 192.168.7.1 -> 192.168.7.{to} df id=1"),
        "tcp 40000 -> 5201 sequence=1 acknowledges=99 push".to_owned(),
        "payload 500 seed=1".to_owned(),
    ];
    let whole = build(&layers, &Stage::default(), None)?.bytes;
    let left = unfinished(&whole)?;
    let header = VnetHeader {
        unfinished: Some(Unfinished {
            start: u16::try_from(left.start)?,
            offset: u16::try_from(left.offset)?,
        }),
        ..VnetHeader::NONE
    };
    Ok((header, left.bytes))
}

#[test]
fn frames_that_show_unfinished_work_move_the_door_until_there_is_another_guest() {
    in_lab("shown", |lab| {
        let (one, two, _underlay) = pair(lab, Some(Offloads::NONE), AUTO, "door = \"xdp\"")?;
        ask::until_healthy(&two.host)?;
        let outcome = during(&one.guest, &two.guest, |stream| {
            stream.flow_on(FRAMES)?;
            until_door(&one.host, PORT, Door::Xdp).map(drop)
        })?;
        outcome.must_be_perfect(FRAMES)?;
        // A guest that leaves checksums to the NIC although it takes no such frames itself.
        for to in [3, 4] {
            let (header, frame) = unfinished_segment(to)?;
            one.guest.send_unfinished(header, &frame)?;
        }
        let door = until_door(&one.host, PORT, Door::Tc)?;
        assert!(door.why.contains("left to be finished"), "{door:?}");
        let outcome = during(&one.guest, &two.guest, |stream| stream.flow_on(FRAMES))?;
        outcome.must_be_perfect(FRAMES)?;
        assert_eq!(
            self::door(&one.host, PORT)?,
            door,
            "nothing has changed since"
        );
        // Its VM starts again, with another driver.
        one.guest.set_offloads(Offloads::ALL)?;
        ask::until(&one.host, "the new guest is noticed", |status| {
            let mut doors = status.doors.iter();
            doors.any(|door| door.why.contains("agreed on offloads"))
        })?;
        one.guest.set_offloads(Offloads::NONE)?;
        let outcome = during(&one.guest, &two.guest, |stream| {
            stream.flow_on(FRAMES)?;
            until_door(&one.host, PORT, Door::Xdp).map(drop)
        })?;
        outcome.must_be_perfect(FRAMES)?;
        Ok(())
    });
}

#[test]
fn where_xdp_cannot_be_attached_it_is_tc_for_the_time_being() {
    in_lab("fails", |lab| {
        let (one, two, _underlay) = pair(lab, None, "door = \"xdp\"", AUTO)?;
        ask::until_healthy(&two.host)?;
        let settings = Settings::on(&format!("device = \"{DEVICE}\"\n{AUTO}"))
            .port(PORT, guest(1))
            .port_with("tap1", &format!("addresses = [\"{}\"]\n{AUTO}", guest(3)))
            .flood();
        one.agent.write_settings(&settings.text())?;
        signal::reload(&one.agent)?;
        // It comes under another name, so that somebody else's program is there before ours.
        let three = one.host.tap_guest("later", guest(3))?;
        let theirs = Program::on(&one.host, "later")?;
        one.host.run("ip link set later name tap1".split(' '))?;
        let door = until_door(&one.host, "tap1", Door::Tc)?;
        assert!(door.why.contains("already has an XDP program"), "{door:?}");
        ask::until_healthy(&one.host)?;
        drop((three, theirs));
        Ok(())
    });
}

/// Joining only makes faster: without it all is well, and the status says why it is so.
#[test]
fn where_tc_cannot_be_put_behind_xdp_frames_are_not_joined() {
    in_lab("unjoined", |lab| {
        let (one, two, _underlay) = pair(lab, Some(Offloads::NONE), AUTO, "door = \"xdp\"")?;
        for site in [&one, &two] {
            ask::until_healthy(&site.host)?;
        }
        // As another agent would have it there.
        let theirs = Program::at_tc(&two.host, DEVICE, c"underlay_tc")?;
        let outcome = during(&one.guest, &two.guest, |stream| {
            two.guest.set_offloads(Offloads::ALL)?;
            until_door(&two.host, PORT, Door::Tc)?;
            let status = ask::until(&two.host, "joining is given up", |status| {
                let mut doors = status.doors.iter();
                doors.any(|door| door.why.contains("frames are not joined, for tc fails"))
            })?;
            assert!(status.doors.iter().all(|door| !door.joins), "{status:?}");
            stream.flow_on(FRAMES)
        })?;
        outcome.must_be_perfect(FRAMES)?;
        ask::until_healthy(&two.host)?;
        assert_eq!(
            programs(&two.host, DEVICE)?.as_deref(),
            Some("xdp (native)")
        );
        drop(theirs);
        Ok(())
    });
}

#[test]
fn a_guest_on_a_veth_has_the_tc_door() {
    in_lab("veth", |lab| {
        let (one, two, _underlay) = pair(lab, None, AUTO, AUTO)?;
        drop(one.agent);
        let own = guest(1);
        let settings = Settings::on(&format!("device = \"{DEVICE}\"\n{AUTO}"))
            .port_with("veth0", &format!("addresses = [\"{own}\"]\n{AUTO}"));
        let agent = one.host.agent(&settings.text())?;
        let _guest = one
            .host
            .namespace_guest(Station::new("veth0", own).address("10.9.0.1/24"))?;
        let port = until_door(&one.host, "veth0", Door::Tc)?;
        assert!(port.why.contains("does not tell"), "{port:?}");
        drop((agent, two));
        Ok(())
    });
}
