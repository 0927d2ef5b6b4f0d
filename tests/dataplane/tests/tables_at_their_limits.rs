//! What happens when a table has no room, and when two CPUs want the same entry at one time?
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests; what fails, fails the test"
)]

use std::sync::Barrier;
use std::thread;

use dataplane::kernel::at_port;
use dataplane::machine::{Machine, on_a_machine, stay_on_a_cpu};
use frames::actor::GUEST_TWO;
use frames::chance;
use frames::stage::Stage;
use frames::vector::Vector;
use frames::world::{self, Entries};
use vnet_agent::dataplane::{DataPlane, DataPlaneError, Fate, KernelTables};
use vnet_agent::model::configuration::Limits;
use vnet_common::addr::Mac;
use vnet_common::table::event::Event;
use zerocopy::FromBytes;

/// As little as there can be.
const SMALL: Limits = Limits {
    ports: 2,
    links: 1,
    networks: 1,
    rules: 3,
    flows: 64,
};

/// A port with these addresses, and a rule to a link for everybody.
fn a_port(machine: &Machine, addresses: &str) -> Entries {
    let text = format!(
        "why = ''\nframe = []\nrules = ['any -> any: link to_two']\n\
         [port.guest_one]\naddresses = '{addresses}'\n[link.to_two]"
    );
    let vector: Vector = toml::from_str(&text).unwrap();
    let stage = Stage {
        devices: machine.devices.clone(),
        ..Stage::default()
    };
    world::entries(&vector, &[], &stage).unwrap()
}

/// A full table is a clear error that names table and limit, and what is in it stays and can be
/// written.
fn fills_up<K: PartialEq + Copy + std::fmt::Debug>(
    plane: &mut DataPlane,
    keys: impl Iterator<Item = K>,
    room: u32,
    names: (&str, &str),
    write: impl Fn(&mut KernelTables, &K) -> Result<(), DataPlaneError>,
    count: impl Fn(&KernelTables) -> usize,
) {
    let mut first = None;
    for (place, key) in (0..).zip(keys) {
        let result = write(plane.tables_mut(), &key);
        let before = *first.get_or_insert(key);
        if place < room {
            result.unwrap();
            continue;
        }
        let error = result
            .err()
            .unwrap_or_else(|| panic!("{names:?} takes {key:?} too"));
        let text = error.to_string();
        let DataPlaneError::Full { map, limit } = error else {
            panic!("{text}")
        };
        assert_eq!((map, limit), names);
        assert!(
            text.contains(map) && text.contains(&format!("limits.{limit}")),
            "{text}"
        );
        write(plane.tables_mut(), &before).unwrap();
        assert_eq!(count(plane.tables()), usize::try_from(room).unwrap());
        return;
    }
    panic!("too few keys to fill {names:?}");
}

#[test]
fn a_full_table_says_so_and_keeps_what_it_has() {
    on_a_machine(|machine| {
        let mut plane = DataPlane::open(&machine.pin_directory(), &SMALL, false).unwrap();
        let entries = a_port(machine, "any");
        let port = *entries.ports.values().next().unwrap();
        let numbers = || 100..200u32;
        fills_up(
            &mut plane,
            numbers(),
            SMALL.ports,
            ("PORTS", "ports"),
            |tables, key| tables.set_port(key, &port),
            |tables| tables.ports().unwrap().len(),
        );
        fills_up(
            &mut plane,
            numbers(),
            SMALL.ports,
            ("PORT_STATES", "ports"),
            |tables, key| tables.add_port_state(*key),
            |tables| {
                numbers()
                    .filter(|key| tables.port_state(*key).unwrap().is_some())
                    .count()
            },
        );
        let admission = *entries.admissions.values().next().unwrap();
        let sources = (1..100u8).map(|last| {
            let mut key = *entries.admissions.keys().next().unwrap();
            key.source[15] = last;
            key
        });
        fills_up(
            &mut plane,
            sources,
            4 * SMALL.links,
            ("ADMISSIONS", "links"),
            |tables, key| tables.set_admission(key, &admission),
            |tables| tables.admissions().unwrap().len(),
        );
        let stage = Stage {
            devices: machine.devices.clone(),
            ..Stage::default()
        };
        let rule_keys = (1..100u8).map(|last| {
            let words = format!("any -> 02:00:00:00:00:{last:02x}: drop");
            let mut entries = Entries::default();
            let rule = world::rule(&words, &stage).unwrap();
            world::add_network(&mut entries, 0, stage.network("blue").unwrap(), 1, &[rule]);
            entries.rules.into_iter().next().unwrap()
        });
        let rule_keys: Vec<_> = rule_keys.collect();
        fills_up(
            &mut plane,
            rule_keys.into_iter(),
            SMALL.rules,
            ("RULES", "rules"),
            |tables, (key, rule)| tables.set_rule(key, rule),
            |tables| tables.rules().unwrap().len(),
        );
    });
}

/// Far more flows than the table holds: the least recently used go, every frame is forwarded, and
/// what the flows do not count any more, the port's ledger does.
#[test]
fn more_flows_than_room_lose_counters_and_no_frames() {
    const FLOWS: u32 = 5000;
    on_a_machine(|machine| {
        let mut plane = DataPlane::open(&machine.pin_directory(), &SMALL, false).unwrap();
        let entries = a_port(machine, "any");
        write(plane.tables_mut(), &entries);
        let (device, port) = entries.ports.iter().next().unwrap();
        for number in 0..FLOWS {
            let [_, a, b, c] = number.to_be_bytes();
            let frame = chance::frame(Mac([2, 0, 0, a, b, c]), GUEST_TWO.mac);
            let answer = plane.run(at_port(*device), &frame, 1).unwrap();
            assert_eq!(answer.fate, Fate::Redirected, "frame {number}");
        }
        let ledger = plane.tables().ledger(port.ledger).unwrap();
        assert_eq!(
            (ledger.received.packets, ledger.forwarded),
            (FLOWS.into(), FLOWS.into())
        );
        let flows = plane.tables().flows().unwrap();
        assert!(!flows.is_empty() && flows.len() <= usize::try_from(SMALL.flows).unwrap());
        let counted: u64 = flows.iter().map(|(_, flow)| flow.packets).sum();
        assert!(counted <= u64::from(FLOWS));
    });
}

fn write(tables: &mut KernelTables, entries: &Entries) {
    for (device, port) in &entries.ports {
        tables.set_port(device, port).unwrap();
        tables.add_port_state(*device).unwrap();
    }
    for (key, rule) in &entries.rules {
        tables.set_rule(key, rule).unwrap();
    }
    for (id, link) in &entries.links {
        tables.set_link(*id, link).unwrap();
    }
    for (slot, network) in &entries.networks {
        tables.set_network(*slot, network).unwrap();
    }
}

/// Two CPUs, each with the first frame of a source of its own, at one port that learns: one source
/// is learned, all of its frames pass and none of the other's, and the agent is told once.
#[test]
fn of_two_sources_at_one_time_one_is_learned() {
    const ROUNDS: u32 = 200;
    const FRAMES: usize = 8;
    const SOURCES: [Mac; 2] = [Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2])];
    on_a_machine(|machine| {
        let open = || DataPlane::open(&machine.pin_directory(), &SMALL, false).unwrap();
        let (mut keeper, mut first, mut second) = (open(), open(), open());
        let mut events = keeper.tables_mut().take_events().unwrap();
        let mut entries = a_port(machine, "learn");
        let device = *entries.ports.keys().next().unwrap();
        write(keeper.tables_mut(), &entries);
        let mut won = [0; 2];
        for round in 0..ROUNDS {
            keeper.tables_mut().remove_port_state(device).unwrap();
            keeper.tables_mut().add_port_state(device).unwrap();
            for (slot, network) in &mut entries.networks {
                network.generation = 2 + round;
                keeper.tables_mut().set_network(*slot, network).unwrap();
            }
            let start = Barrier::new(2);
            let at_once = |plane: &mut DataPlane, place: usize| -> Vec<Fate> {
                stay_on_a_cpu(place).unwrap();
                let frame = chance::frame(SOURCES[place], GUEST_TWO.mac);
                start.wait();
                let run = |_| plane.run(at_port(device), &frame, 1).unwrap().fate;
                (0..FRAMES).map(run).collect()
            };
            let verdicts = thread::scope(|scope| {
                let one = scope.spawn(|| at_once(&mut first, 0));
                let two = scope.spawn(|| at_once(&mut second, 1));
                [one.join().unwrap(), two.join().unwrap()]
            });
            let learned = keeper.tables().port_state(device).unwrap().unwrap().learned;
            let winner = SOURCES
                .iter()
                .position(|source| source.to_bits() == learned)
                .unwrap();
            won[winner] += 1;
            assert_eq!(
                verdicts[winner],
                [Fate::Redirected; FRAMES],
                "round {round}"
            );
            assert_eq!(
                verdicts[1 - winner],
                [Fate::Dropped; FRAMES],
                "round {round}"
            );
            let told = events
                .next()
                .map(|item| Event::read_from_bytes(&item).unwrap().address);
            assert_eq!(told, Some(SOURCES[winner]), "round {round}");
            assert!(events.next().is_none(), "told twice in round {round}");
        }
        println!(
            "of {ROUNDS} rounds the first source won {}, the second {}",
            won[0], won[1]
        );
    });
}
