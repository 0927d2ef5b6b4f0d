//! What lies in the pin directory is used only if it is ours, and removed only if it is ours.
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests; what fails, fails the test"
)]

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use aya::maps::{HashMap, Map, MapData, MapInfo, MapType};
use dataplane::foreign::{Kind, create, pin};
use dataplane::kernel::{LIMITS, at_port};
use dataplane::machine::{Machine, on_a_machine};
use frames::actor::NEIGHBOUR;
use frames::chance::{self, A_BUSY_HOST, STATIONS};
use frames::stage::Stage;
use frames::vector::Vector;
use frames::world;
use vnet_agent::dataplane::object::shapes;
use vnet_agent::dataplane::pin::Shape;
use vnet_agent::dataplane::{DataPlane, DataPlaneError, Fate};
use vnet_agent::model::configuration::Limits;
use vnet_common::table::ledger::Ledger;
use vnet_common::table::port::{PortEntry, PortState};
use vnet_common::{SCHEMA, name};

/// Every pin under a directory, by the identity of its map.
fn pins(directory: &Path) -> BTreeMap<PathBuf, u32> {
    let mut found = BTreeMap::new();
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => return found,
        entries => entries.unwrap(),
    };
    for entry in entries {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            found.extend(pins(&entry.path()));
        } else {
            // The kinds of pins that are no maps have no identity here: being there is enough.
            let id = MapInfo::from_pin(entry.path()).map_or(0, |info| info.id());
            found.insert(entry.path(), id);
        }
    }
    found
}

fn maps_directory(machine: &Machine) -> PathBuf {
    machine
        .pin_directory()
        .join(format!("v{SCHEMA}"))
        .join("maps")
}

fn kind_of(shape: &Shape) -> Kind {
    Kind {
        kind: shape.kind,
        key_bytes: shape.key_bytes,
        value_bytes: shape.value_bytes,
        entries: shape.entries,
        flags: shape.flags,
    }
}

/// The ways in which a map can be another than ours: what the refusal calls it, and such a map.
fn other_kinds(shape: &Shape) -> [(&'static str, Kind); 5] {
    const READ_ONLY_FOR_PROGRAMS: u32 = 1 << 7;
    const ON_A_NUMA_NODE: u32 = 1 << 2;
    let ours = kind_of(shape);
    let another = match shape.kind {
        MapType::Hash => MapType::LruHash,
        MapType::Array => MapType::Hash,
        MapType::LruPerCpuHash => MapType::PerCpuHash,
        MapType::PerCpuArray => MapType::PerCpuHash,
        _ => MapType::Hash,
    };
    let flags = match (shape.kind, ours.flags) {
        (MapType::RingBuf, _) => ON_A_NUMA_NODE,
        (_, 0) => READ_ONLY_FOR_PROGRAMS,
        _ => 0,
    };
    let of_another_type = Kind {
        kind: another,
        key_bytes: ours.key_bytes.max(4),
        value_bytes: ours.value_bytes.max(4),
        // The flag that goes with hashes only.
        flags: if another == MapType::LruHash {
            0
        } else {
            ours.flags
        },
        entries: ours.entries,
    };
    [
        ("type", of_another_type),
        (
            "key size",
            Kind {
                key_bytes: ours.key_bytes + 4,
                ..ours
            },
        ),
        (
            "value size",
            Kind {
                value_bytes: ours.value_bytes + 8,
                ..ours
            },
        ),
        ("flags", Kind { flags, ..ours }),
        (
            "capacity",
            Kind {
                entries: ours.entries * 2,
                ..ours
            },
        ),
    ]
}

/// Whether the kernel has such maps at all: the keys of arrays have four bytes, rings have
/// neither keys nor values.
fn can_be(shape: &Shape, what: &str) -> bool {
    match shape.kind {
        MapType::Array | MapType::PerCpuArray => what != "key size",
        MapType::RingBuf => what != "key size" && what != "value size",
        _ => true,
    }
}

#[test]
fn a_map_of_another_shape_is_refused_and_everything_stays() {
    on_a_machine(|machine| {
        let directory = maps_directory(machine);
        fs::create_dir_all(&directory).unwrap();
        for shape in shapes(&LIMITS) {
            for (what, other) in other_kinds(&shape) {
                let Ok(map) = create(&other) else {
                    assert!(
                        !can_be(&shape, what),
                        "{}: no other {what}: {other:?}",
                        shape.name
                    );
                    continue;
                };
                assert!(
                    can_be(&shape, what),
                    "{}: another {what} is possible",
                    shape.name
                );
                let path = directory.join(shape.name);
                pin(&map, &path).unwrap();
                let before = pins(&machine.pin_directory());
                let error = DataPlane::open(&machine.pin_directory(), &LIMITS, true).err();
                let error =
                    error.unwrap_or_else(|| panic!("{}: another {what} is fine", shape.name));
                let text = error.to_string();
                let DataPlaneError::ForeignMap {
                    path: refused_path,
                    what: difference,
                    ..
                } = error
                else {
                    panic!("{}: another {what}: {text}", shape.name);
                };
                assert_eq!((&refused_path, difference), (&path, what), "{text}");
                assert!(
                    text.contains(shape.name) && text.contains("teardown"),
                    "{text}"
                );
                assert_eq!(pins(&machine.pin_directory()), before);
                fs::remove_file(&path).unwrap();
            }
        }
    });
}

/// A data plane at work: ports, rules, and a frame that goes from one to the other.
fn at_work(machine: &Machine) -> DataPlane {
    let mut plane = DataPlane::open(&machine.pin_directory(), &LIMITS, true).unwrap();
    let stage = Stage {
        devices: machine.devices.clone(),
        ..Stage::default()
    };
    let mut vector: Vector = toml::from_str(A_BUSY_HOST).unwrap();
    vector.port.get_mut("neighbour").unwrap().network = "blue".to_owned();
    let entries = world::entries(&vector, &[], &stage).unwrap();
    let tables = plane.tables_mut();
    for (device, port) in &entries.ports {
        tables.set_port(device, port).unwrap();
    }
    for (key, rule) in &entries.rules {
        tables.set_rule(key, rule).unwrap();
    }
    for (slot, network) in &entries.networks {
        tables.set_network(*slot, network).unwrap();
    }
    plane
}

fn works(plane: &mut DataPlane, machine: &Machine) {
    let frame = chance::frame(STATIONS[0], NEIGHBOUR.mac);
    let answer = plane
        .run(at_port(machine.devices["guest_one"]), &frame, 1)
        .unwrap();
    assert_eq!((answer.fate, answer.frame), (Fate::Redirected, frame));
}

#[test]
fn a_refusal_leaves_a_running_data_plane_at_work() {
    on_a_machine(|machine| {
        let mut plane = at_work(machine);
        works(&mut plane, machine);
        let path = maps_directory(machine).join(name::FLOWS);
        fs::remove_file(&path).unwrap();
        let shape = shapes(&LIMITS)
            .into_iter()
            .find(|shape| shape.name == name::FLOWS)
            .unwrap();
        let larger = Kind {
            value_bytes: shape.value_bytes + 8,
            ..kind_of(&shape)
        };
        pin(&create(&larger).unwrap(), &path).unwrap();
        let before = pins(&machine.pin_directory());

        assert!(DataPlane::open(&machine.pin_directory(), &LIMITS, true).is_err());

        assert_eq!(pins(&machine.pin_directory()), before);
        works(&mut plane, machine);
    });
}

#[test]
fn another_limit_is_refused_by_its_name() {
    on_a_machine(|machine| {
        let mut plane = at_work(machine);
        let before = pins(&machine.pin_directory());
        let others = [
            (
                "limits.ports",
                Limits {
                    ports: LIMITS.ports + 1,
                    ..LIMITS
                },
            ),
            (
                "limits.links",
                Limits {
                    links: LIMITS.links - 1,
                    ..LIMITS
                },
            ),
            (
                "limits.networks",
                Limits {
                    networks: LIMITS.networks + 1,
                    ..LIMITS
                },
            ),
            (
                "limits.rules",
                Limits {
                    rules: LIMITS.rules * 2,
                    ..LIMITS
                },
            ),
            (
                "limits.flows",
                Limits {
                    flows: LIMITS.flows / 2,
                    ..LIMITS
                },
            ),
        ];
        for (limit, limits) in others {
            let error = DataPlane::open(&machine.pin_directory(), &limits, true)
                .err()
                .unwrap();
            assert!(error.to_string().contains(limit), "{error}");
            assert_eq!(pins(&machine.pin_directory()), before);
        }
        works(&mut plane, machine);
    });
}

#[test]
fn the_next_agent_finds_everything() {
    on_a_machine(|machine| {
        let mut first = at_work(machine);
        works(&mut first, machine);
        let before = pins(&machine.pin_directory());
        let (ports, rules) = (
            first.tables().ports().unwrap(),
            first.tables().rules().unwrap(),
        );
        let flows = first.tables().flows().unwrap();
        assert!(!ports.is_empty() && !rules.is_empty() && !flows.is_empty());
        drop(first);

        let mut second = DataPlane::open(&machine.pin_directory(), &LIMITS, true).unwrap();
        assert_eq!(second.tables().ports().unwrap(), ports);
        assert_eq!(second.tables().rules().unwrap(), rules);
        assert_eq!(second.tables().flows().unwrap(), flows);
        works(&mut second, machine);
        let after = pins(&machine.pin_directory());
        assert_eq!(
            after.keys().collect::<Vec<_>>(),
            before.keys().collect::<Vec<_>>()
        );
        for map in name::PINNED_MAPS {
            let path = maps_directory(machine).join(map);
            assert_eq!(after[&path], before[&path], "{map} is another one");
        }
    });
}

/// What schema 1 kept for a port, and an address that it learned.
const PORT_STATE_BYTES_OF_1: usize = 24;
const LEARNED: u64 = 0x5254_0000_0042;

/// Has the pins be those of schema 1, whose port states were shorter.
fn as_of_schema_1(machine: &Machine, port: u32) {
    let root = machine.pin_directory();
    fs::rename(root.join(format!("v{SCHEMA}")), root.join("v1")).unwrap();
    let path = root.join("v1").join("maps").join(name::PORT_STATES);
    fs::remove_file(&path).unwrap();
    let kind = Kind {
        kind: MapType::Hash,
        key_bytes: 4,
        value_bytes: PORT_STATE_BYTES_OF_1 as u32,
        entries: LIMITS.ports,
        flags: 0,
    };
    pin(&create(&kind).unwrap(), &path).unwrap();
    let map = Map::HashMap(MapData::from_pin(&path).unwrap());
    let mut states: HashMap<_, u32, [u8; PORT_STATE_BYTES_OF_1]> = map.try_into().unwrap();
    let mut state = [0; PORT_STATE_BYTES_OF_1];
    state[..8].copy_from_slice(&LEARNED.to_ne_bytes());
    states.insert(port, state, 0).unwrap();
}

#[test]
fn the_tables_of_schema_1_go_on() {
    on_a_machine(|machine| {
        let mut first = at_work(machine);
        works(&mut first, machine);
        let learner = machine.devices["guest_one"];
        let flows = first.tables().flows().unwrap();
        let (ports, ledgers) = books(&first);
        assert!(!flows.is_empty() && ledgers.iter().any(|ledger| ledger.received.packets > 0));
        as_of_schema_1(machine, learner);

        let mut second = DataPlane::open(&machine.pin_directory(), &LIMITS, true).unwrap();

        assert_eq!(second.tables().flows().unwrap(), flows);
        assert_eq!(books(&second), (ports.clone(), ledgers));
        for (port, _) in ports {
            let learned = if port == learner { LEARNED } else { 0 };
            let state = second.tables().port_state(port).unwrap();
            let expected = PortState {
                learned,
                ..PortState::NEW
            };
            assert_eq!(state, Some(expected));
        }
        works(&mut second, machine);
        // One and the same table: who is not replaced yet counts in it as well.
        works(&mut first, machine);
        let (_, ledgers) = books(&second);
        assert_eq!(
            ledgers.iter().map(|ledger| ledger.received.packets).max(),
            Some(3)
        );
    });
}

/// The ports, and their ledgers.
fn books(plane: &DataPlane) -> (Vec<(u32, PortEntry)>, Vec<Ledger>) {
    let mut ports = plane.tables().ports().unwrap();
    ports.sort_by_key(|(index, _)| *index);
    let ledger = |(_, port): &(u32, PortEntry)| plane.tables().ledger(port.ledger).unwrap();
    let ledgers = ports.iter().map(ledger).collect();
    (ports, ledgers)
}

#[test]
fn other_limits_than_schema_1_had_are_refused_by_their_name() {
    on_a_machine(|machine| {
        let mut plane = at_work(machine);
        as_of_schema_1(machine, machine.devices["guest_one"]);
        let before = pins(&machine.pin_directory());
        let limits = Limits {
            rules: LIMITS.rules * 2,
            ..LIMITS
        };
        let error = DataPlane::open(&machine.pin_directory(), &limits, true).err();
        let text = error.unwrap().to_string();
        assert!(text.contains("limits.rules"), "{text}");
        assert_eq!(pins(&machine.pin_directory()), before);
        works(&mut plane, machine);
    });
}

#[test]
fn what_a_later_schema_left_is_not_read() {
    on_a_machine(|machine| {
        let mut first = at_work(machine);
        works(&mut first, machine);
        let root = machine.pin_directory();
        let later = root.join(format!("v{}", SCHEMA + 1));
        fs::rename(root.join(format!("v{SCHEMA}")), &later).unwrap();
        let before = pins(&later);

        // Not even with other limits is it in the way.
        let limits = Limits {
            rules: LIMITS.rules * 2,
            ..LIMITS
        };
        let second = DataPlane::open(&root, &limits, true).unwrap();

        assert_eq!(second.tables().ports().unwrap(), []);
        assert_eq!(second.tables().rules().unwrap(), []);
        assert_eq!(pins(&later), before);
        works(&mut first, machine);
    });
}

#[test]
fn a_removal_takes_what_is_ours_and_nothing_else() {
    on_a_machine(|machine| {
        let mut plane = at_work(machine);
        works(&mut plane, machine);
        drop(plane);
        let root = machine.pin_directory();
        let somebodys = Kind {
            kind: MapType::Hash,
            key_bytes: 4,
            value_bytes: 4,
            entries: 1,
            flags: 0,
        };
        let map = create(&somebodys).unwrap();
        fs::create_dir(root.join("theirs")).unwrap();
        fs::create_dir(root.join("vx")).unwrap();
        let foreign = ["theirs/map", "map", "vx/map", "v"].map(|name| root.join(name));
        for path in &foreign {
            pin(&map, path).unwrap();
        }
        let in_ours = root.join(format!("v{SCHEMA}")).join("theirs");
        pin(&map, &in_ours).unwrap();

        let removed = DataPlane::remove(&root).unwrap();

        assert_eq!(removed.maps, name::PINNED_MAPS.len());
        let mut left: Vec<PathBuf> = pins(&root).into_keys().collect();
        left.retain(|path| *path != in_ours);
        let mut foreign = foreign.to_vec();
        foreign.sort();
        assert_eq!(left, foreign);
        assert!(in_ours.exists(), "a pin beside ours");
    });
}

#[test]
fn a_removal_without_others_leaves_nothing_at_all() {
    on_a_machine(|machine| {
        drop(at_work(machine));
        DataPlane::remove(&machine.pin_directory()).unwrap();
        assert!(!machine.pin_directory().exists());
        let nothing = DataPlane::remove(&machine.pin_directory()).unwrap();
        assert_eq!((nothing.links, nothing.maps), (0, 0), "and once more");
    });
}
