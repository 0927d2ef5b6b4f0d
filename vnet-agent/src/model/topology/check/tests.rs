use super::*;
use crate::model::topology::sample::{GUEST, STRANGER, host, link, network, rule, three, vm};

/// What is said about the sample with one thing changed.
fn said(change: impl FnOnce(&mut Topology)) -> Vec<String> {
    let mut topology = three();
    change(&mut topology);
    let found = topology.problems();
    for problem in &found {
        assert!(!problem.error.cure().is_empty(), "{}", problem.error);
    }
    found.iter().map(|found| found.error.to_string()).collect()
}

#[test]
fn the_sample_makes_sense() {
    assert_eq!(three().problems(), []);
    assert_eq!(Topology::default().problems(), []);
}

#[test]
fn names_and_numbers_have_one_holder() {
    let expected = ["a second host is called \"one\""];
    assert_eq!(said(|t| t.hosts.push(host("one", 9))), expected);
    let expected = ["a second network is called \"blue\""];
    assert_eq!(said(|t| t.networks.push(network("blue", 9))), expected);
    let expected = ["network id 7 is the id of network \"blue\" already"];
    assert_eq!(said(|t| t.networks.push(network("red", 7))), expected);
    let expected = ["10.0.0.1 is the address of host \"one\" already"];
    assert_eq!(said(|t| t.hosts.push(host("four", 1))), expected);
    let expected = ["\"proxy\" is the proxy already"];
    assert_eq!(said(|t| t.hosts[1].role = Role::Proxy), expected);
    let expected = [
        "a second VM is called \"vm1\"",
        "52:54:00:00:00:01 is the address of VM \"vm1\" in network \"blue\" already",
    ];
    assert_eq!(said(|t| t.vms.push(vm("vm1", 1, "blue", "two"))), expected);
    assert_eq!(
        said(|t| t.vms.push(vm("vm9", 1, "green", "two"))),
        <[&str; 0]>::default(),
        "the same address in another network is another station"
    );
}

#[test]
fn what_a_host_says_of_itself_makes_sense() {
    for (change, expected) in [
        (
            (|host| host.name = "a b".into()) as fn(&mut Host),
            "the host name \"a b\" has the character ' '",
        ),
        (|host| host.user = String::new(), "\"\" is no user's name"),
        (|host| host.port = 0, "no agent hears on port 0"),
        (
            |host| host.interface = "eth*".into(),
            "the device name \"eth*\" has the wildcard '*', and names one device only",
        ),
        (
            |host| host.address = Some(IpAddr::from([127, 0, 0, 1])),
            "127.0.0.1 is a loopback address, which never leaves a host",
        ),
    ] {
        let mut lonely = host("four", 4);
        change(&mut lonely);
        assert_eq!(said(|t| t.hosts.push(lonely)), [expected]);
    }
}

#[test]
fn a_vm_is_somewhere() {
    let expected = ["there is no host \"tow\""];
    assert_eq!(said(|t| t.vms[0].host = "tow".into()), expected);
    let expected = ["there is no network \"bleu\""];
    assert_eq!(said(|t| t.vms[0].network = "bleu".into()), expected);
    let expected = ["ff:ff:ff:ff:ff:ff is a group's address, which no VM has"];
    assert_eq!(said(|t| t.vms[0].mac = Mac::BROADCAST), expected);
    let expected = ["00:00:00:00:00:00 is no station's address"];
    assert_eq!(said(|t| t.vms[0].mac = Mac::ZERO), expected);
    let expected = ["device tap1 of one is in network \"blue\" already, with VM \"vm1\""];
    assert_eq!(
        said(|t| t.vms.push(vm("vm1-green", 1, "green", "one"))),
        expected
    );
    let expected = ["\"far\" is foreign: it has no agent that would do this"];
    assert_eq!(said(|t| t.vms.push(vm("vm9", 9, "blue", "far"))), expected);
}

#[test]
fn a_link_joins_two_hosts() {
    let expected = ["a link from \"one\" to itself"];
    assert_eq!(
        said(|t| t.links.push(link("one", "one", &["green"]))),
        expected
    );
    let expected = ["a second link between \"one\" and \"two\" carries network \"blue\""];
    assert_eq!(
        said(|t| t.links.push(link("two", "one", &["green", "blue"]))),
        expected
    );
    let expected = ["a link without networks carries nothing"];
    assert_eq!(said(|t| t.links.push(link("one", "two", &[]))), expected);
    let expected = ["network \"green\" is listed twice"];
    assert_eq!(
        said(|t| t.links.push(link("one", "two", &["green", "green"]))),
        expected
    );
    let expected = ["a tls link needs an agent at both ends, and \"far\" is foreign"];
    assert_eq!(
        said(|t| {
            let far = Link {
                kind: LinkKind::Tls,
                ..link("one", "far", &["blue"])
            };
            t.links.push(far);
        }),
        expected
    );
    let expected = ["\"one\" hears on port 6081, \"two\" on 6082"];
    assert_eq!(
        said(|t| {
            t.hosts.retain(|host| host.name != "two");
            let other = Host {
                port: 6082,
                ..host("two", 2)
            };
            t.hosts.push(other);
            t.links
                .retain(|link| link.other("two").is_none_or(|o| o == "one"));
            t.rules.retain(|rule| rule.host == "one");
        }),
        expected
    );
}

#[test]
fn a_rule_can_be_carried_out() {
    let to = |to: Target| rule("one", Destination::Is(STRANGER), to);
    for (rule, expected) in [
        (
            to(Target::Edge("three".into())),
            "there is no link from \"one\" to \"three\" that carries network \"blue\"",
        ),
        (to(Target::Edge("tree".into())), "there is no host \"tree\""),
        (
            Rule {
                source: Source::Is(Mac::BROADCAST),
                ..to(Target::Drop)
            },
            "ff:ff:ff:ff:ff:ff is a group's address, which no VM has",
        ),
        (
            Rule {
                destination: Destination::Not(Mac::ZERO),
                ..to(Target::Drop)
            },
            "00:00:00:00:00:00 is no station's address",
        ),
        (
            Rule {
                network: "green".into(),
                ..to(Target::Interface("tap1".into()))
            },
            "device tap1 of one is in network \"blue\" already, with VM \"vm1\"",
        ),
        (
            Rule {
                host: "far".into(),
                ..to(Target::Drop)
            },
            "\"far\" is foreign: it has no agent that would do this",
        ),
        (
            rule("one", Destination::Is(GUEST[1]), Target::Drop),
            "two rules of \"one\" about any -> 52:54:00:00:00:02 in network \"blue\" contradict \
             each other: edge to two, drop",
        ),
        (
            three().rules[0].clone(),
            "the same rule stands there already",
        ),
    ] {
        assert_eq!(said(|t| t.rules.push(rule)), [expected]);
    }
}
