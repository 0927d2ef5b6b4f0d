//! Is what is desired right, case by case?

use vnet_common::table::link::LinkEntry;

use super::super::links::detours;
use super::*;

/// Host one's configuration with these MTU wishes, on a host whose tap has this MTU.
fn mtu_case(set_mtu: bool, has_link: bool, tap_mtu: u32) -> (Configuration, Host) {
    let mut configuration = crate::model::sample::host_one();
    configuration.underlay.on = UnderlayMatch::Device("eth0".into());
    configuration.ports.truncate(1);
    configuration.ports[0].set_mtu = set_mtu;
    configuration.rules.clear();
    configuration.links.truncate(usize::from(has_link));
    let mut host = host(&["tap0"], 1500);
    host.devices.get_mut(&10).unwrap().mtu = tap_mtu;
    (configuration, host)
}

fn after(now: &Image, wanted: &Desired) -> Image {
    let mut image = now.clone();
    steps(now, &wanted.image)
        .iter()
        .for_each(|step| apply(&mut image, step));
    image
}

#[test]
fn a_veth_keeps_the_mtu_that_its_guests_frames_are_measured_against() {
    let (configuration, mut host) = mtu_case(true, true, 1500);
    host.devices.get_mut(&10).unwrap().kind = DeviceKind::Veth;
    let wanted = wanted_on(&configuration, &host, &Image::default());
    assert!(wanted.mtus.is_empty());
    assert_eq!(wanted.guest_mtus.values().copied().min(), Some(1422));
    assert_eq!(wanted.image.ports[&10].mtu_before, 0);
}

#[test]
fn a_devices_mtu_is_set_kept_and_put_back() {
    let (configuration, host) = mtu_case(true, true, 1500);
    let wanted = wanted_on(&configuration, &host, &Image::default());
    assert_eq!(wanted.mtus, BTreeMap::from([(10, 1422)]));
    let now = after(&Image::default(), &wanted);
    assert_eq!(now.ports[&10].mtu_before, 1500);

    // It was set; now nothing limits it any more, or the agent is not to set it.
    for (set_mtu, has_link) in [(true, false), (false, true)] {
        let (changed, host) = mtu_case(set_mtu, has_link, 1422);
        let wanted = wanted_on(&changed, &host, &now);
        assert_eq!(wanted.mtus, BTreeMap::from([(10, 1500)]));
        let set = after(&now, &wanted);
        assert_eq!(
            set.ports[&10].mtu_before, 1500,
            "remembered until it is there"
        );
        let (_, host) = mtu_case(set_mtu, has_link, 1500);
        let wanted = wanted_on(&changed, &host, &set);
        assert!(wanted.mtus.is_empty());
        assert_eq!(after(&set, &wanted).ports[&10].mtu_before, 0);
    }

    // It is no port any more.
    let (mut without, host) = mtu_case(true, true, 1422);
    without.ports.clear();
    let wanted = wanted_on(&without, &host, &now);
    assert_eq!(wanted.mtus_before, BTreeMap::from([(10, 1500)]));

    // The underlay device is away: nobody knows better, so everything stays.
    let (configuration, mut host) = mtu_case(true, true, 1422);
    host.devices.remove(&UNDERLAY);
    let wanted = wanted_on(&configuration, &host, &now);
    assert!(wanted.mtus.is_empty() && wanted.mtus_before.is_empty());
    assert_eq!(after(&now, &wanted).ports[&10].mtu_before, 1500);
}

#[test]
fn a_link_that_is_being_resolved_keeps_its_earlier_way() {
    let (configuration, mut host) = mtu_case(true, true, 1422);
    let now = after(
        &Image::default(),
        &wanted_on(&configuration, &host, &Image::default()),
    );
    let to_two = IpAddr::from([10, 0, 0, 2]);
    for (way, is_kept) in [
        (NoNextHop::Resolving, true),
        (NoNextHop::Failed, false),
        (NoNextHop::NoRoute, false),
    ] {
        host.next_hops.insert(to_two, Err(way));
        let wanted = wanted_on(&configuration, &host, &now);
        assert_eq!(wanted.image.links == now.links, is_kept, "{way:?}");
        assert_eq!(wanted.faults.is_empty(), is_kept, "{:?}", wanted.faults);
    }
    // An agent that starts has not asked yet.
    host.next_hops.clear();
    assert_eq!(
        wanted_on(&configuration, &host, &now).image.links,
        now.links
    );
}

#[test]
fn a_rule_without_its_target_drops_and_says_so() {
    let network = NetworkId::new(7).unwrap();
    let entry = |action| {
        let alternative = Alternative {
            action,
            ..Alternative::NONE
        };
        RuleEntry::compile(&[alternative]).unwrap()
    };
    let mut configuration = crate::model::sample::host_one();
    configuration.underlay.on = UnderlayMatch::Device("eth0".into());
    let wanted = wanted_on(&configuration, &host(&["tap1"], 1500), &Image::default());
    let shape = Shape::of(Source::Any, Destination::Is(GUEST_ONE));
    let key = |mac| RuleKey::new(network, shape, Stations::new(Mac::ZERO, mac));
    let rule = |mac| wanted.image.rules.get(&key(mac)).copied();
    assert_eq!(
        rule(GUEST_ONE),
        Some(entry(Action::drop(Reason::PortAbsent)))
    );
    assert_eq!(rule(GUEST_TWO), Some(entry(Action::deliver(PortId(10)))));
    let waiting = wanted
        .faults
        .iter()
        .find(|fault| fault.subject == "port tap0");
    assert!(
        waiting.is_some_and(|fault| fault.is_waiting),
        "{:?}",
        wanted.faults
    );
}

#[test]
fn a_network_that_comes_back_is_above_every_generation_it_had() {
    let entry = |generation| NetworkEntry {
        id: 7,
        generation,
        shapes: 0,
        _pad: 0,
    };
    let now = Image {
        generation: 9,
        ..Image::default()
    };
    let wanted = Image {
        networks: BTreeMap::from([(0, entry(0))]),
        ..Image::default()
    };
    assert_eq!(steps(&now, &wanted), [Step::SetNetwork(0, entry(10))]);
}

#[test]
fn a_link_sends_what_is_known_to_arrive_and_guests_follow() {
    let (configuration, host) = mtu_case(true, true, 1500);
    let name = configuration.links[0].name.clone();
    let on = |known: Option<Option<u32>>, now: &Image| {
        let known = known.map(|arrives| PathMtu {
            arrives,
            settled: None,
        });
        let known = known.map(|known| (name.clone(), known)).into_iter();
        wanted_with(&configuration, &host, now, &known.collect())
    };
    let mtus = |desired: &Desired| {
        let guest = desired.guest_mtus.values().copied().min();
        (
            desired.ways[&name].device_mtu,
            desired.ways[&name].mtu,
            guest,
        )
    };
    let fresh = on(Some(None), &Image::default());
    assert_eq!(
        mtus(&fresh),
        (1500, 1500, Some(1422)),
        "the device's word at first"
    );
    let narrow = on(Some(Some(1400)), &after(&Image::default(), &fresh));
    assert_eq!(mtus(&narrow), (1500, 1400, Some(1322)));
    assert_eq!(narrow.image.links[&0].frame_bytes_max, 1322 + 14);
    let now = after(&Image::default(), &narrow);
    assert_eq!(
        mtus(&on(Some(None), &now)).1,
        1400,
        "an agent that starts keeps it"
    );
    assert_eq!(mtus(&on(None, &now)).1, 1500, "but not if nobody asks");
    assert_eq!(
        mtus(&on(Some(Some(9000)), &now)).1,
        1500,
        "nor more than the device sends"
    );
    let searching = PathMtu {
        arrives: Some(1280),
        settled: Some(1400),
    };
    let known = [(name.clone(), searching)].into_iter().collect();
    let searching = wanted_with(&configuration, &host, &now, &known);
    assert_eq!(
        mtus(&searching),
        (1500, 1280, Some(1322)),
        "guests are told when it is over"
    );
}

#[test]
fn a_dead_links_frames_take_the_first_fall_back_that_answers() {
    let (mut configuration, _) = mtu_case(true, true, 1500);
    let model = configuration.links[0].clone();
    let link = |name: &str, fallback: Option<&str>| crate::model::Link {
        name: name.into(),
        fallback: fallback.map(str::to_owned),
        ..model.clone()
    };
    configuration.links = vec![
        link("a", Some("b")),
        link("b", Some("c")),
        link("c", Some("a")),
        link("d", None),
    ];
    let names = ["a", "b", "c", "d"];
    let ids = (0..)
        .zip(names)
        .map(|(id, name)| (name.to_owned(), LinkId(id)));
    let ids: BTreeMap<String, LinkId> = ids.collect();
    let turned = |answers: [Option<bool>; 4], now: &Image| {
        let names = names.map(str::to_owned);
        let answering = names.into_iter().zip(answers).collect();
        let detours = detours(&configuration, &ids, &answering, now);
        let detours = detours.into_iter().map(|(from, to)| (from.0, to.0));
        detours.collect::<Vec<(u32, u32)>>()
    };
    let (yes, no) = (Some(true), Some(false));
    let fresh = Image::default();
    assert_eq!(turned([yes; 4], &fresh), []);
    assert_eq!(turned([no, yes, yes, yes], &fresh), [(0, 1)]);
    assert_eq!(turned([no, no, yes, no], &fresh), [(0, 2), (1, 2)]);
    assert_eq!(turned([no; 4], &fresh), [], "where none answers, they stay");
    // An agent that starts goes on with what the tables say, until it knows.
    let mut now = Image::default();
    let turned_entry = LinkEntry::NONE.with_instead(Some(LinkId(1)));
    now.links.insert(0, turned_entry);
    assert_eq!(turned([None; 4], &now), [(0, 1)]);
    assert_eq!(turned([yes, None, None, None], &now), []);
}
