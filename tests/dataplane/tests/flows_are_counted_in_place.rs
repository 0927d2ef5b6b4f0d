//! Is every frame of a flow counted, wherever that happens: in a place of the CPU that it came in on, in
//! the flow table, or in one and then the other?
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests; what fails, fails the test"
)]

use std::collections::{BTreeMap, BTreeSet};

use aya::maps::{HashMap, Map, MapData};
use dataplane::kernel::at_port;
use dataplane::machine::{Machine, on_a_machine, stay_on_a_cpu};
use frames::actor::GUEST_TWO;
use frames::chance;
use frames::stage::Stage;
use frames::vector::Vector;
use frames::world::{self, Entries};
use vnet_agent::dataplane::tables::Plain;
use vnet_agent::dataplane::{DataPlane, Fate, KernelTables};
use vnet_agent::model::configuration::Limits;
use vnet_common::addr::Mac;
use vnet_common::table::flow::FlowKey;
use vnet_common::table::near::NearFlow;
use vnet_common::table::port::PortEntry;
use vnet_common::{SCHEMA, name};

const FEW_FLOWS: u32 = 64;

const FEW: Limits = Limits {
    ports: 2,
    links: 1,
    networks: 1,
    rules: 3,
    flows: FEW_FLOWS,
};

const MANY: Limits = Limits {
    flows: 1 << 14,
    ..FEW
};

/// A port from which everything goes over a link.
fn a_port(machine: &Machine) -> Entries {
    let text = "why = ''\nframe = []\nrules = ['any -> any: link to_two']\n\
                [port.guest_one]\naddresses = 'any'\n[link.to_two]";
    let vector: Vector = toml::from_str(text).unwrap();
    let stage = Stage {
        devices: machine.devices.clone(),
        ..Stage::default()
    };
    world::entries(&vector, &[], &stage).unwrap()
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

fn source(number: u32) -> Mac {
    let [_, a, b, c] = number.to_be_bytes();
    Mac([2, 0, 0, a, b, c])
}

/// Sends one frame of a flow.
fn send(plane: &mut DataPlane, device: u32, number: u32) {
    let frame = chance::frame(source(number), GUEST_TWO.mac);
    let answer = plane.run(at_port(device), &frame, 1).unwrap();
    assert_eq!(answer.fate, Fate::Redirected);
}

/// The frames that each flow has counted, as a list and one by one alike.
fn counted(plane: &DataPlane) -> BTreeMap<FlowKey, u64> {
    let flows = plane.tables().flows().unwrap();
    let counted: BTreeMap<_, _> = flows
        .iter()
        .map(|(key, flow)| (*key, flow.packets))
        .collect();
    assert_eq!(counted.len(), flows.len(), "a flow is listed twice");
    for (key, packets) in &counted {
        let alone = plane.tables().flow(key).unwrap().unwrap();
        assert_eq!(alone.packets, *packets, "{key:?}");
    }
    counted
}

/// More flows at one time than there are places: they push each other out again and again.
#[test]
fn flows_that_share_a_place_keep_their_counts() {
    const FLOWS: u32 = 400;
    const ROUNDS: u64 = 100;
    on_a_machine(|machine| {
        let mut plane = DataPlane::open(&machine.pin_directory(), &MANY, false).unwrap();
        let entries = a_port(machine);
        write(plane.tables_mut(), &entries);
        let device = *entries.ports.keys().next().unwrap();
        let network = entries.ports.values().next().unwrap().network;
        let place = |number: u32| {
            let key = FlowKey::new(network, source(number), GUEST_TWO.mac);
            NearFlow::place(&key)
        };
        // Those of a few places only: chance gives each of them to several.
        let mut places = BTreeMap::<_, Vec<u32>>::new();
        for number in 1..200_000 {
            places.entry(place(number)).or_default().push(number);
        }
        let flows: Vec<u32> = places
            .values()
            .filter(|numbers| numbers.len() >= 8)
            .flat_map(|numbers| numbers.iter().take(8).copied())
            .take(FLOWS as usize)
            .collect();
        let shared: BTreeSet<_> = flows.iter().map(|number| place(*number)).collect();
        assert_eq!((flows.len(), shared.len()), (400, 50));
        for round in 1..=ROUNDS {
            // Each for itself, and then in turn, so that places change hands at every pace.
            for number in &flows {
                send(&mut plane, device, *number);
            }
            if round == ROUNDS / 2 {
                let expected = vec![round; flows.len()];
                assert_eq!(counted(&plane).into_values().collect::<Vec<_>>(), expected);
            }
        }
        for number in flows.iter().step_by(10) {
            for _ in 0..ROUNDS {
                send(&mut plane, device, *number);
            }
        }
        let all = counted(&plane);
        assert_eq!(all.len(), flows.len());
        for (place, number) in flows.iter().enumerate() {
            let key = FlowKey::new(network, source(*number), GUEST_TWO.mac);
            let more = if place % 10 == 0 { ROUNDS } else { 0 };
            assert_eq!(all[&key], ROUNDS + more, "{key:?}");
        }
    });
}

/// A flow in use is not forgotten because others push it out of the table, and both CPUs' frames count.
#[test]
fn a_flow_in_use_outlives_the_table() {
    const FRAMES: u64 = 300;
    on_a_machine(|machine| {
        let mut plane = DataPlane::open(&machine.pin_directory(), &FEW, false).unwrap();
        let entries = a_port(machine);
        write(plane.tables_mut(), &entries);
        let device = *entries.ports.keys().next().unwrap();
        let network = entries.ports.values().next().unwrap().network;
        let key = FlowKey::new(network, source(0), GUEST_TWO.mac);
        for frame in 1..=FRAMES {
            send(&mut plane, device, 0);
            // As many new flows as the table holds, each between two frames of the one.
            if frame % 50 == 0 {
                for other in 1..=2 * FEW_FLOWS {
                    send(
                        &mut plane,
                        device,
                        other + 1_000 * u32::try_from(frame).unwrap(),
                    );
                }
            }
            let flow = plane.tables().flow(&key).unwrap().unwrap();
            if (NearFlow::FRAMES_TO_PLACE..50).contains(&frame) {
                assert_eq!(flow.packets, frame);
            }
        }
        assert_eq!(counted(&plane)[&key], FRAMES);
        stay_on_a_cpu(1).unwrap();
        for _ in 0..FRAMES {
            send(&mut plane, device, 0);
        }
        assert_eq!(counted(&plane)[&key], 2 * FRAMES);
        drop(plane);
        let mut next = DataPlane::open(&machine.pin_directory(), &FEW, false).unwrap();
        send(&mut next, device, 0);
        assert_eq!(counted(&next)[&key], 2 * FRAMES + 1);
    });
}

/// What the agent changes holds for the next frame, although the programs have a copy.
#[test]
fn a_port_that_changes_is_copied_anew() {
    on_a_machine(|machine| {
        let mut plane = DataPlane::open(&machine.pin_directory(), &FEW, false).unwrap();
        let entries = a_port(machine);
        write(plane.tables_mut(), &entries);
        let (&device, port) = entries.ports.iter().next().unwrap();
        let frame = chance::frame(source(1), GUEST_TWO.mac);
        let fate = |plane: &mut DataPlane| plane.run(at_port(device), &frame, 1).unwrap().fate;
        assert_eq!(fate(&mut plane), Fate::Redirected);
        plane.tables_mut().remove_port(&device).unwrap();
        assert_eq!(fate(&mut plane), Fate::Dropped);
        plane.tables_mut().set_port(&device, port).unwrap();
        assert_eq!(fate(&mut plane), Fate::Redirected);
        // An agent that dies after a change and before it says so: the next one says it at its start.
        let mut elsewhere = *port;
        elsewhere.network_slot = FEW.networks;
        let pins = machine.pin_directory().join(format!("v{SCHEMA}"));
        let ports = MapData::from_pin(pins.join("maps").join(name::PORTS)).unwrap();
        let mut ports: HashMap<_, u32, Plain<PortEntry>> = Map::HashMap(ports).try_into().unwrap();
        ports.insert(device, Plain(elsewhere), 0).unwrap();
        assert_eq!(fate(&mut plane), Fate::Redirected, "there was no copy");
        let mut next = DataPlane::open(&machine.pin_directory(), &FEW, false).unwrap();
        assert_eq!(fate(&mut next), Fate::Dropped);
    });
}
