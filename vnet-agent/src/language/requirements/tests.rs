use proptest::prelude::*;
use vnet_common::addr::Mac;

use super::*;
use crate::model::topology::sample::{host, network, three, vm};
use crate::model::topology::{Fate, Router};

fn links(topology: &Topology) -> Vec<String> {
    let line = |link: &Link| format!("{}-{} {}", link.from, link.to, link.flood);
    topology.links.iter().map(line).collect()
}

fn planned(line: &str) -> Topology {
    plan(line, &Topology::default()).unwrap_or_else(|faults| panic!("{faults}"))
}

#[test]
fn each_shape_has_its_links() {
    for (line, expected) in [
        ("star around p of a, b", vec!["a-p always", "b-p always"]),
        (
            "ring of a, b, c",
            vec!["a-b from-ports", "a-c from-ports", "b-c from-ports"],
        ),
        (
            "ring of a b c d",
            vec!["a-b always", "a-d always", "b-c always", "c-d never"],
        ),
        (
            "full mesh over a, b and c",
            vec!["a-b from-ports", "a-c from-ports", "b-c from-ports"],
        ),
        (
            "tree of a b c d e fanout 2",
            vec!["a-b always", "a-c always", "b-d always", "b-e always"],
        ),
        ("bus a b c", vec!["a-b always", "b-c always"]),
    ] {
        assert_eq!(links(&planned(line)), expected, "{line}");
    }
}

#[test]
fn what_the_overlay_has_besides_stays() {
    let after = plan("ring of vm1, two, vm3", &three()).unwrap();
    assert_eq!(
        links(&after),
        [
            "far-proxy from-ports",
            "one-proxy always",
            "one-three never",
            "one-two never",
            "proxy-three always",
            "proxy-two always",
            "three-two never",
        ]
    );
    assert_eq!(after.problems(), []);
    assert!(after.cut_off().is_empty());
    assert_eq!(plan("ring of vm1, two, vm3", &after), Ok(after));
}

#[test]
fn who_is_behind_a_firewall_opens_connections() {
    let kinds = |topology: &Topology| -> Vec<String> {
        let line = |link: &Link| format!("{} {}-{}", link.kind, link.from, link.to);
        topology.links.iter().map(line).collect()
    };
    let ring = planned("ring of a, b, c, tls from a");
    assert_eq!(kinds(&ring), ["tls a-b", "tls a-c", "udp b-c"]);
    let other = planned("ring of a, b, c, tls from c");
    assert_eq!(kinds(&other), ["udp a-b", "tls c-a", "tls c-b"]);
    // Of what kind it is belongs to two machines, not to a shape.
    let bus = plan("bus of b, a, c", &ring).unwrap();
    assert_eq!(kinds(&bus), ["tls a-b", "tls a-c"]);
}

#[test]
fn machines_of_the_users_lan_are_not_called_by_everybody() {
    let after = plan("ring of one, two, three", &three()).unwrap();
    let router = Router::new(&after);
    let on_the_lan = Mac([2, 0, 0, 0, 0, 9]);
    for vm in &after.vms {
        let hops = router.from_vm(vm, on_the_lan);
        let fates = hops.first().map(|hop| hop.fates.as_slice());
        assert!(
            matches!(fates, Some([Fate::Edge { host, .. }]) if host == "proxy"),
            "{hops:?}"
        );
    }
}

#[test]
fn a_line_that_makes_no_sense_is_shown() {
    let said = |line: &str, base: &Topology| {
        let fault = plan(line, base).unwrap_err().faults.remove(0);
        format!("{} {}; {}", fault.column, fault.message, fault.cure)
    };
    let none = Topology::default();
    assert_eq!(
        said("rign of a b", &none),
        "1 \"rign\" is no shape; did you mean ring?"
    );
    assert!(said("ring of a b", &none).starts_with("1 a ring takes at least 3 names; write"));
    assert_eq!(
        said("bus of a b a", &none),
        "12 a is named twice; name it once"
    );
    assert!(said("tree of a b fanout many", &none).starts_with("20 this is no fanout"));
    assert!(said("bus of a b tls", &none).starts_with("1 nobody opens the connections"));
    let nobody = said("bus of a b, tls from d", &none);
    assert_eq!(nobody, "22 there is no host or VM \"d\"; did you mean a?");
    assert!(said("ring of a b c fanout 2", &none).starts_with("15 a ring has no fanout"));
    assert!(said("", &none).starts_with("1 nothing is wanted"));
    assert!(said("bus of a b!", &none).starts_with("10 the host name \"b!\" has the character"));
    assert_eq!(
        said("bus of one, tow", &three()),
        "13 there is no host or VM \"tow\"; did you mean two?"
    );
    assert!(said("bus of one far", &three()).starts_with("12 \"far\" is foreign"));
    assert!(said("bus of one vm1", &three()).starts_with("1 this names one machine"));
}

fn some_line() -> impl Strategy<Value = (String, usize)> {
    let shape = prop::sample::select(vec!["star", "ring", "full mesh", "tree", "bus"]);
    (shape, 3usize..9, 1usize..4).prop_map(|(shape, count, fanout)| {
        let names: Vec<String> = (0..count).map(|n| format!("h{n}")).collect();
        let fanout = match shape {
            "tree" => format!(" fanout {fanout}"),
            _ => String::new(),
        };
        (format!("{shape} of {}{fanout}", names.join(", ")), count)
    })
}

proptest! {
    #[test]
    fn every_vm_reaches_every_other_and_nobody_hears_anything_twice(
        (line, count) in some_line(),
        homes in prop::collection::vec(0usize..9, 2..8),
        has_star in any::<bool>(),
    ) {
        let mut base = Topology {
            networks: vec![network("blue", 7)],
            ..Topology::default()
        };
        base.hosts.extend((0..count).zip(1u8..).map(|(n, number)| host(&format!("h{n}"), number)));
        base.vms.extend(homes.iter().zip(1u8..).map(|(home, number)| {
            vm(&format!("vm{number}"), number, "blue", &format!("h{}", home % count))
        }));
        if has_star {
            base.hosts.push(host("hub", 99));
            let names: Vec<String> = (0..count).map(|n| format!("h{n}")).collect();
            base = plan(&format!("star around hub of {}", names.join(" ")), &base).unwrap();
        }
        let topology = plan(&line, &base).unwrap();
        prop_assert_eq!(topology.problems(), vec![]);
        prop_assert!(topology.cut_off().is_empty());
        let router = Router::new(&topology);
        for from in &topology.vms {
            for to in topology.vms.iter().filter(|to| to.name != from.name) {
                let hops = router.from_vm(from, to.mac);
                let last = hops.last().map(|hop| hop.fates.clone());
                let there = Fate::Interface { device: to.device.clone(), vms: vec![to.name.clone()] };
                prop_assert_eq!(last, Some(vec![there]), "{:?}", hops);
            }
            let mut heard: Vec<String> = Vec::new();
            for hop in router.from_vm(from, Mac::BROADCAST) {
                for fate in hop.fates {
                    match fate {
                        Fate::Interface { vms, .. } => heard.extend(vms),
                        Fate::Dropped(why) => prop_assert!(why != crate::model::topology::Why::Loop),
                        _ => {}
                    }
                }
            }
            heard.sort();
            let others = topology.vms.iter().filter(|vm| vm.name != from.name);
            let others: Vec<String> = others.map(|vm| vm.name.clone()).collect();
            prop_assert_eq!(heard, others);
        }
    }

    #[test]
    fn any_line_is_planned_or_refused(line in "(ring|star|tree|bus|mesh)?( (of|a|b|c|,|fanout|9|é)){0,8}\\PC{0,4}") {
        match plan(&line, &Topology::default()) {
            Ok(topology) => prop_assert_eq!(topology.problems(), vec![]),
            Err(faults) => prop_assert_eq!(faults.faults.len(), 1),
        }
    }
}
