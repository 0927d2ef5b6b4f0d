//! What does the kernel hold of links that the agent carries?

use super::*;

#[test]
fn a_link_that_the_agent_carries_goes_by_its_tap_and_keeps_its_books() {
    let carried = |kind| Link {
        kind,
        ..sample::link("to-two", 2, &["blue"])
    };
    let configuration = |links| Configuration {
        underlay: Underlay {
            on: UnderlayMatch::Device("eth0".into()),
            udp_port: 6081,
            tcp_port: 6081,
            door: DoorChoice::Tc,
        },
        networks: vec![network("blue", 7)],
        ports: Vec::new(),
        links,
        rules: Vec::new(),
        limits: Limits::default(),
    };
    let host = host(&[], 1500);
    let three = sample::link("to-three", 3, &["blue"]);
    let without = Link {
        kind: Transport::Tls,
        cookie: Some(Cookie(3)),
        ..three
    };
    let tcp = configuration(vec![carried(Transport::Tcp), without.clone()]);
    let first = wanted_on(&tcp, &host, &Image::default());
    let (two, three) = (first.links["to-two"], first.links["to-three"]);
    let entry = first.image.links[&two.0];
    assert_eq!(entry.device, SLOW_PATH);
    assert_eq!(entry.flags, LinkEntry::UP | LinkEntry::AGENT);
    assert_eq!(
        first.image.links[&three.0].device, 0,
        "it has no connection"
    );
    assert!(first.image.admissions.is_empty());
    assert_eq!(first.guest_mtus.get("blue"), Some(&1500));
    // The next agent finds both again, in whatever order they are.
    let turned = configuration(vec![without, carried(Transport::Tls)]);
    let second = wanted_on(&turned, &host, &first.image);
    assert_eq!(second.links, first.links);
    assert_eq!(second.image.links, first.image.links);
    // Beside one in the kernel to the same host.
    let beside = Link {
        name: "beside".into(),
        ..sample::link("to-two", 2, &["blue"])
    };
    let both = configuration(vec![beside, carried(Transport::Tcp)]);
    let third = wanted_on(&both, &host, &first.image);
    assert_eq!(third.links["to-two"], two);
    assert_ne!(third.links["beside"], two);
    assert_eq!(third.image.admissions.len(), 1);
}
