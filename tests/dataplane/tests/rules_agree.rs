//! The kernel's match, the host's match and reading the list of rules are the same, for rules and
//! frames by chance; and the agent writes the tables that the vectors are about.
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests; what fails, fails the test"
)]

use std::net::IpAddr;

use dataplane::kernel::Kernel;
use dataplane::machine::on_a_machine;
use frames::actor::{HOST_ONE, LINKS, WIRE};
use frames::chance::{self, STATIONS, Shown, for_all, shown};
use frames::heap::Heap;
use frames::linear::deciding;
use frames::runner::{Door, Ran, Runner, Verdict};
use frames::vector::Vector;
use frames::world::{self, Entries, Rule};
use proptest::prelude::*;
use vnet_agent::act::reconcile::header::{Endpoint, Path, link_entry};
use vnet_agent::act::reconcile::rules::{Compilable, compile_rules};
use vnet_common::addr::{LinkId, NetworkId, PortId};
use vnet_common::table::action::Decision;
use vnet_common::table::network::NetworkEntry;

/// Rules as the agent compiles them.
fn compiled(entries: &mut Entries, network: NetworkId, generation: u32, rules: &[Rule]) {
    let compilable = rules.iter().map(|rule| Compilable {
        network,
        source: rule.source,
        destination: rule.destination,
        action: rule.action,
    });
    let compiled = compile_rules(compilable);
    let shapes = compiled.shapes.get(&network).copied().unwrap_or(0);
    entries.rules = compiled.rules;
    let entry = NetworkEntry {
        id: network.get(),
        generation,
        shapes,
        _pad: 0,
    };
    entries.networks.insert(0, entry);
}

/// What became of a frame by the rules, as far as its bytes show it.
fn decided(input: &[u8], ran: &Ran) -> Option<Shown> {
    match ran.verdict {
        Verdict::Redirected(_) | Verdict::RedirectedOrBack => shown(input, &ran.frame),
        _ => None,
    }
}

fn demanded(rule: Option<&Rule>) -> Option<Shown> {
    match rule?.action.decision()? {
        Decision::Drop(_) => None,
        Decision::Deliver(_) => Some(Shown::Port),
        Decision::Flood => Some(Shown::Agent),
        Decision::Send(LinkId(link)) => Some(Shown::Link(link.into())),
    }
}

/// Every pair of stations under every set of rules: asked (which ignores no rule and remembers no
/// flow), run as a flow's first frame, and run as its second.
fn agree(kernel: &mut Kernel, heap: &mut Heap, rules: &[Rule]) -> Result<(), TestCaseError> {
    let port = kernel.stage().device("guest_one").unwrap();
    for source in STATIONS {
        for destination in STATIONS {
            let expected = demanded(deciding(rules, source, destination));
            let input = chance::frame(source, destination);
            let on_heap = heap.run(Door::Port, port, &input, 1).unwrap();
            prop_assert_eq!(decided(&input, &on_heap), expected, "on the host");
            let asked = kernel.ask(Door::Port, port, &input).unwrap().unwrap();
            prop_assert_eq!(decided(&input, &asked), expected, "asked");
            for nth in ["first", "second"] {
                let ran = kernel.run(Door::Port, port, &input, 1).unwrap();
                prop_assert_eq!(decided(&input, &ran), expected, "the flow's {} frame", nth);
            }
        }
    }
    Ok(())
}

#[test]
fn the_kernel_the_host_and_the_list_decide_alike() {
    on_a_machine(|machine| {
        let mut kernel = Kernel::load(machine).unwrap();
        let mut heap = Heap::on(kernel.stage().clone());
        let text = "why = ''\nframe = []\n[port.guest_one]\naddresses = 'any'\n[port.neighbour]";
        let vector: Vector = toml::from_str(text).unwrap();
        let mut base = world::entries(&vector, &[], kernel.stage()).unwrap();
        chance::telling_links(&mut base, kernel.stage(), 0).unwrap();
        let network = kernel.stage().network("blue").unwrap();
        let neighbour = PortId(machine.devices["neighbour"]);
        let mut generation = 1;
        for_all(300, true, &chance::rules(0, neighbour), |rules| {
            generation += 1;
            let mut entries = base.clone();
            compiled(&mut entries, network, generation, &rules);
            kernel.write(&entries).unwrap();
            heap.write(&entries).unwrap();
            agree(&mut kernel, &mut heap, &rules)
        });
    });
}

/// The vectors compile rules by themselves; the agent must come to the same tables.
#[test]
fn the_agent_compiles_rules_into_the_tables_of_the_vectors() {
    let network = NetworkId::new(7).unwrap();
    for_all(200, true, &chance::rules(0, PortId(3)), |rules| {
        let (mut ours, mut agents) = (Entries::default(), Entries::default());
        world::add_network(&mut ours, 0, network, 1, &rules);
        compiled(&mut agents, network, 1, &rules);
        prop_assert_eq!(ours, agents);
        Ok(())
    });
}

/// The vectors build a link's headers by an encoder of their own; the agent must come to the same.
#[test]
fn the_agent_prepares_the_headers_of_the_vectors() {
    let heap = Heap::new();
    for link in &LINKS {
        let expected = world::link_entry(link, heap.stage()).unwrap();
        let end = |actor: frames::actor::Actor| Endpoint {
            mac: actor.mac,
            address: if link.is_ipv6 {
                IpAddr::V6(actor.ipv6)
            } else {
                IpAddr::V4(actor.ipv4)
            },
        };
        let path = Path {
            local: end(HOST_ONE),
            remote: end(link.far),
            device: heap.stage().device(WIRE).unwrap(),
            mtu: world::UNDERLAY_MTU,
            udp_port: 6081,
            cookie: link.cookie,
        };
        assert_eq!(
            link_entry(&path, expected.ledger),
            Some(expected),
            "{}",
            link.name
        );
    }
}
