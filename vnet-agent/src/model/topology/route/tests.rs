use proptest::prelude::*;

use super::*;
use crate::model::topology::sample::{GUEST, STRANGER, link, rule, some_topology, three};

fn said(topology: &Topology, source: Mac, destination: Mac) -> Vec<String> {
    let hops = Router::new(topology)
        .route(None, source, destination)
        .unwrap();
    let line = |hop: &Hop| {
        let join = |texts: Vec<String>| texts.join("; ");
        let deciders = join(hop.deciders.iter().map(ToString::to_string).collect());
        let fates = join(hop.fates.iter().map(ToString::to_string).collect());
        format!("{}, {}: [{deciders}] {fates}", hop.host, hop.came)
    };
    hops.iter().map(line).collect()
}

#[test]
fn each_hop_has_its_rule() {
    let [one, two, three_] = GUEST;
    assert_eq!(
        said(&three(), one, two),
        [
            "one, interface tap1: [any -> 52:54:00:00:00:02 = edge to two] over udp to two",
            "two, edge from one: [any -> 52:54:00:00:00:02 = interface tap2 (the VM is here)] delivered to vm2 (tap2)",
        ]
    );
    assert_eq!(
        said(&three(), one, three_),
        [
            "one, interface tap1: [any -> none = edge to proxy] over udp to proxy",
            "proxy, edge from one: [any -> 52:54:00:00:00:03 = edge to three] over udp to three",
            "three, edge from proxy: [any -> 52:54:00:00:00:03 = interface tap3 (the VM is here)] delivered to vm3 (tap3)",
        ]
    );
}

#[test]
fn a_frame_for_many_goes_all_the_ways() {
    let lines = said(&three(), GUEST[0], Mac::BROADCAST);
    assert_eq!(
        lines,
        [
            "one, interface tap1: [any -> none = edge to proxy] over udp to proxy",
            "proxy, edge from one: [any -> none = flood] over udp to three; over udp to two",
            "three, edge from proxy: [any -> none = edge to proxy] dropped: it would go back where it came from",
            "two, edge from proxy: [any -> none = edge to proxy] dropped: it would go back where it came from",
        ],
        "the plain link takes what comes from ports only"
    );
}

#[test]
fn what_goes_nowhere_says_why() {
    let mut topology = three();
    let last = |topology: &Topology, to: Mac| said(topology, GUEST[0], to).pop().unwrap();
    topology.rules.retain(|rule| rule.host != "one");
    assert!(last(&topology, STRANGER).ends_with("[] dropped: no rule matches"));
    let to = |to: Target| rule("one", Destination::None, to);
    topology.rules.push(to(Target::Drop));
    assert!(last(&topology, STRANGER).ends_with("dropped: a rule says so"));
    topology.rules.pop();
    topology.rules.push(to(Target::Interface("tap1".into())));
    assert!(last(&topology, STRANGER).ends_with("dropped: it would go back where it came from"));
    assert_eq!(
        Router::new(&topology).route(None, STRANGER, GUEST[0]),
        Err(NoRoute::UnknownSource(STRANGER))
    );
}

#[test]
fn a_ring_of_rules_is_found() {
    let mut topology = three();
    topology.links.push(link("two", "three", &["blue"]));
    topology.links.push(link("three", "one", &["blue"]));
    topology.rules = [("one", "two"), ("two", "three"), ("three", "one")]
        .map(|(at, to)| rule(at, Destination::Any, Target::Edge(to.into())))
        .to_vec();
    let lines = said(&topology, GUEST[0], STRANGER);
    // Out of the VM, and once more round until the side is the same.
    assert_eq!(lines.len(), 4, "{lines:#?}");
    assert!(
        lines[3].ends_with("goes round until its hop limit"),
        "{lines:#?}"
    );
}

/// What decides and what comes of it, found by looking at everything.
fn slow(topology: &Topology, network: &str, hop: &Hop, from: Mac, to: Mac) -> BTreeSet<String> {
    let mut rules: Vec<(Source, Destination, Target)> = Vec::new();
    for vm in &topology.vms {
        let sides = (Source::Any, Destination::Is(vm.mac));
        let is_said = topology.rules.iter().any(|rule| {
            (rule.source, rule.destination) == sides
                && rule.host == hop.host
                && rule.network == network
        });
        if vm.host == hop.host && vm.network == network && !is_said {
            rules.push((sides.0, sides.1, Target::Interface(vm.device.clone())));
        }
    }
    for rule in &topology.rules {
        if rule.host == hop.host && rule.network == network {
            rules.push((rule.source, rule.destination, rule.to.clone()));
        }
    }
    let mut best: Vec<(u8, usize, Target)> = Vec::new();
    for (age, (source, destination, target)) in rules.iter().enumerate() {
        let by_source = match source {
            Source::Any => Some(0),
            Source::Not(mac) => (*mac != from).then_some(1),
            Source::Is(mac) => (*mac == from).then_some(2),
        };
        let by_destination = match destination {
            Destination::None => Some(0),
            Destination::Any => Some(1),
            Destination::Not(mac) => (*mac != to).then_some(2),
            Destination::Is(mac) => (*mac == to).then_some(3),
        };
        if let (Some(a), Some(b)) = (by_source, by_destination) {
            best.push((b * 3 + a, age, target.clone()));
        }
    }
    best.sort_by_key(|(strength, age, _)| (*strength, *age));
    best.reverse();
    let mut fates = BTreeSet::new();
    for (_, _, target) in best {
        if target == Target::Drop {
            break;
        }
        let came = |fate: &str| match &hop.came {
            Came::Interface(device) => fate == format!("into {device}"),
            Came::Edge(host) => fate == format!("to {host}"),
        };
        let mut add = |fate: String| {
            if !came(&fate) {
                fates.insert(fate);
            }
        };
        match target {
            Target::Edge(host) => add(format!("to {host}")),
            Target::Interface(device) => add(format!("into {device}")),
            _ => {
                for vm in &topology.vms {
                    if vm.host == hop.host && vm.network == network {
                        add(format!("into {}", vm.device));
                    }
                }
                for rule in &topology.rules {
                    if let (Target::Interface(device), true, true) =
                        (&rule.to, rule.host == hop.host, rule.network == network)
                    {
                        add(format!("into {device}"));
                    }
                }
                for link in &topology.links {
                    let from_port = matches!(hop.came, Came::Interface(_));
                    let takes = link.flood == Flooding::Always
                        || (link.flood == Flooding::FromPorts && from_port);
                    if let Some(other) = link.other(&hop.host)
                        && takes
                        && link.networks.contains(&network.to_owned())
                    {
                        add(format!("to {other}"));
                    }
                }
            }
        }
        if !to.is_group() {
            break;
        }
    }
    fates
}

proptest! {
    #[test]
    fn every_hop_is_what_looking_at_everything_finds(
        topology in some_topology(),
        destination in prop::sample::select(vec![GUEST[0], GUEST[1], STRANGER, Mac::BROADCAST]),
    ) {
        let router = Router::new(&topology);
        for vm in &topology.vms {
            let hops = router.from_vm(vm, destination);
            prop_assert!(hops.len() <= 1 + 2 * topology.links.len());
            for (place, hop) in hops.iter().enumerate() {
                let expected = slow(&topology, &vm.network, hop, vm.mac, destination);
                let found: BTreeSet<String> = hop.fates.iter().filter_map(|fate| match fate {
                    Fate::Interface { device, .. } => Some(format!("into {device}")),
                    Fate::Edge { host, .. } | Fate::Leaves { host } => Some(format!("to {host}")),
                    Fate::Dropped(_) => None,
                }).collect();
                // A way that was taken before is not taken again.
                let again = hop.fates.contains(&Fate::Dropped(Why::Loop));
                prop_assert!(found.is_subset(&expected), "{:?} {:?}", hop, expected);
                prop_assert!(again || found == expected, "{:?} {:?}", hop, expected);
                // Who is sent something gets it.
                for to in found.iter().filter_map(|fate| fate.strip_prefix("to ")) {
                    let next = |other: &Hop| {
                        other.host == to && other.came == Came::Edge(hop.host.clone())
                    };
                    prop_assert!(hops.iter().skip(place + 1).any(next), "{:?}", hops);
                }
            }
        }
    }
}
