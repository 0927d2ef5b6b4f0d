//! The promise: of frames that come in many at a time, those that a device refuses are counted at
//! that device, each once, and nobody else's are. Here and on Debian's kernel, whichever way the
//! kernel allows.

use std::path::Path;

use anyhow::Result;
use dataplane::burst::Burst;
use dataplane::live::Live;
use dataplane::machine::{Machine, on_a_machine};
use frames::runner::Runner;
use frames::vector::Vector;
use frames::{chance, world};
use lab::{Luggage, on_debians_kernel};
use nix::mount::{MsFlags, mount, umount};
use nix::net::if_::if_nametoindex;
use vnet_agent::model::counting::Counting;
use vnet_common::table::ledger::Ledger;

/// Even, and more than a tap has room for.
const FRAMES: u32 = 4000;
/// Devices' queues have room for 16: some turns fit, some leave a rest, some fill queues twice.
const TURNS: [u32; 5] = [1, 16, 31, 64, 100];
const VETH: &str = "veth";
const VETH_LEDGER: u32 = 20;

/// Ports `guest_one` and `neighbour`, and a veth whose other end takes no redirected frames.
struct Stage<'a> {
    live: Live<'a>,
    veth: u32,
}

fn stage(machine: &Machine) -> Result<Stage<'_>> {
    let mut live = Live::attach(machine)?;
    if if_nametoindex(VETH).is_err() {
        machine.ip(&format!("link add {VETH} type veth peer name other"))?;
        machine.ip(&format!("link set {VETH} up"))?;
        machine.ip("link set other up")?;
    }
    let veth = if_nametoindex(VETH)?;
    let vector: Vector = toml::from_str(chance::A_BUSY_HOST)?;
    let mut entries = world::entries(&vector, &[], live.stage())?;
    let mut port = entries.ports[&machine.devices["neighbour"]];
    port.ledger = VETH_LEDGER;
    entries.ports.insert(veth, port);
    live.reset()?;
    live.write(&entries)?;
    live.kernel.plane.tables_mut().zero_ledger(VETH_LEDGER)?;
    Ok(Stage { live, veth })
}

fn refused(live: &Live<'_>) -> Result<Vec<(u32, u64)>> {
    let slots = [Ledger::AGENT].into_iter().chain(1..=VETH_LEDGER);
    let tables = live.kernel.plane.tables();
    let ledgers = slots.map(|slot| Ok((slot, tables.ledger(slot)?.refused)));
    let moved = |found: &Result<(u32, u64)>| !matches!(found, Ok((_, 0)));
    ledgers.filter(moved).collect()
}

/// Frames from one device to two, of which one is full sooner or later and one takes none.
fn counts_add_up(machine: &Machine, stage: &Stage<'_>) -> Result<()> {
    let Stage { live, veth } = stage;
    let (from, tap) = (machine.devices["guest_one"], machine.devices["neighbour"]);
    let tap_ledger = ledger_of(live, tap)?;
    let burst = Burst::to([tap, *veth])?;
    let frame = chance::frame(chance::STATIONS[0], frames::actor::NEIGHBOUR.mac);
    let half = u64::from(FRAMES / 2);
    let (mut at_tap, mut at_veth) = (0, 0);
    for turn in TURNS {
        burst.run(from, &frame, FRAMES, turn)?;
        let arrived = machine.received("neighbour")?.len() as u64;
        assert!(arrived < half, "a tap has room for {arrived}");
        at_tap += half - arrived;
        at_veth += half;
        assert_eq!(
            refused(live)?,
            [(tap_ledger, at_tap), (VETH_LEDGER, at_veth)],
            "{turn} a turn"
        );
    }
    Ok(())
}

fn ledger_of(live: &Live<'_>, device: u32) -> Result<u32> {
    let ports = live.kernel.plane.tables().ports()?;
    let port = ports.iter().find(|(index, _)| *index == device);
    Ok(port.map_or(Ledger::AGENT, |(_, port)| port.ledger))
}

#[test]
fn those_of_a_burst() {
    on_a_machine(|machine| {
        counts_add_up(machine, &stage(machine).unwrap()).unwrap();
    });
}

#[test]
fn those_for_a_device_that_is_no_port_are_the_agents() {
    on_a_machine(|machine| {
        let Stage { mut live, veth } = stage(machine).unwrap();
        live.kernel.plane.tables_mut().remove_port(&veth).unwrap();
        let burst = Burst::to([veth, veth]).unwrap();
        let frame = chance::frame(chance::STATIONS[0], frames::actor::NEIGHBOUR.mac);
        burst
            .run(machine.devices["guest_one"], &frame, FRAMES, 64)
            .unwrap();
        assert_eq!(
            refused(&live).unwrap(),
            [(Ledger::AGENT, u64::from(FRAMES))]
        );
    });
}

/// The same devices' numbers, in another namespace, and in this one a device that is no port: what
/// they lose is not ours.
#[test]
fn nobody_elses() {
    on_a_machine(|first| {
        let one = stage(first).unwrap();
        on_a_machine(|second| {
            let two = stage(second).unwrap();
            assert_eq!(one.veth, two.veth, "both have the same numbers");
            let stranger = if_nametoindex("other").unwrap();
            let burst = Burst::to([two.veth, two.veth]).unwrap();
            let frame = chance::frame(chance::STATIONS[0], frames::actor::NEIGHBOUR.mac);
            burst.run(stranger, &frame, FRAMES, 64).unwrap();
            assert_eq!(refused(&two.live).unwrap(), []);
            let guest = second.devices["guest_one"];
            burst.run(guest, &frame, FRAMES, 64).unwrap();
            let all = [(VETH_LEDGER, u64::from(FRAMES))];
            assert_eq!(refused(&two.live).unwrap(), all);
        });
        assert_eq!(refused(&one.live).unwrap(), []);
    });
}

fn luggage() -> Result<Luggage> {
    Luggage::new().tool("ip")
}

/// The cheap way, the other one and back, each by an agent that follows one that went another way:
/// what both were to count would count twice.
#[test]
fn an_older_kernel_counts_them_in_either_way() {
    on_debians_kernel("an_older_kernel_counts_them_in_either_way", luggage, || {
        on_a_machine(|machine| {
            counts(machine, |counting| *counting == Counting::WhenRefused)?;
            let symbols = Path::new("/proc/kallsyms");
            let nothing = None::<&str>;
            mount(
                Some("/dev/null"),
                symbols,
                nothing,
                MsFlags::MS_BIND,
                nothing,
            )?;
            let is_hidden = |counting: &Counting| matches!(counting, Counting::AtEveryBatch { why } if why.contains("CAP_SYSLOG"));
            counts(machine, is_hidden)?;
            umount(symbols)?;
            counts(machine, |counting| *counting == Counting::WhenRefused)
        })
    });
}

fn counts(machine: &Machine, in_this_way: impl Fn(&Counting) -> bool) -> Result<()> {
    let stage = stage(machine)?;
    let counting = stage.live.kernel.plane.counting();
    assert!(in_this_way(counting), "{counting:?}");
    counts_add_up(machine, &stage)
}
