//! Agents come, go and change, and parts follow.

use vnet_common::addr::Cookie;

use vnet_common::rule::Destination;

use super::*;
use crate::model::sample::{GUEST_ONE, GUEST_TWO, network};
use crate::model::{Rule, Target};
use crate::overlay::message::{IntroducedPort, VERSION};
use crate::overlay::picture::picture;

const NOW_MS: u64 = 1_790_000_000_000;

fn has(address: &str, station: Mac) -> Introduction {
    Introduction {
        underlay: vec![address.parse().unwrap()],
        udp_port: 6081,
        ports: vec![IntroducedPort {
            device: "tap0".into(),
            network: "blue".into(),
            stations: vec![station],
            is_open: false,
        }],
        ..Introduction::default()
    }
}

fn hello(name: &str, instance: u64, introduction: Introduction) -> Hello {
    Hello {
        version: VERSION,
        name: name.into(),
        software: "0.1.0".into(),
        schema: 2,
        instance,
        held: None,
        introduction,
    }
}

struct Proxy {
    roll: Roll,
    introduction: Introduction,
    networks: Vec<Network>,
    cookies: u64,
    sessions: u64,
}

impl Proxy {
    fn new(kept: Kept) -> Self {
        Self {
            roll: Roll::new(kept),
            introduction: has("10.0.0.9", Mac([2, 0, 0, 0, 0, 9])),
            networks: vec![network("blue", 7)],
            cookies: 0,
            sessions: 0,
        }
    }

    fn admit(&mut self, hello: &Hello) -> Result<Option<u64>, String> {
        self.sessions += 1;
        let guest = Guest {
            session: self.sessions,
            from: "10.0.0.1:999".into(),
            hello,
            expires_unix_s: 0,
            now_unix_ms: NOW_MS,
        };
        let hub = Hub {
            name: "proxy",
            introduction: &self.introduction,
            networks: &self.networks,
        };
        let admitted = self.roll.admit(&guest, &hub);
        admitted.map_err(|error| error.to_string())
    }

    fn deal(&mut self) -> Vec<String> {
        let hub = Hub {
            name: "proxy",
            introduction: &self.introduction,
            networks: &self.networks,
        };
        let cookies = &mut self.cookies;
        let dealt = self.roll.deal(&hub, NOW_MS, || {
            *cookies += 1;
            Ok::<_, String>(Cookie(*cookies))
        });
        dealt.unwrap().into_iter().collect()
    }
}

#[test]
fn revisions_rise_for_those_only_whose_part_changes() {
    let mut proxy = Proxy::new(Kept::default());
    assert_eq!(proxy.deal(), ["proxy"]);
    proxy
        .admit(&hello("one", 1, has("10.0.0.1", GUEST_ONE)))
        .unwrap();
    assert_eq!(proxy.deal(), ["one", "proxy"]);
    let first = proxy.roll.part("one").unwrap().clone();
    assert!(first.revision > NOW_MS && first.revision < NOW_MS + 10);
    proxy
        .admit(&hello("two", 2, has("10.0.0.2", GUEST_TWO)))
        .unwrap();
    assert_eq!(proxy.deal(), ["proxy", "two"]);
    assert_eq!(proxy.roll.part("one"), Some(&first));
    assert!(proxy.deal().is_empty());
    let again = Proxy::new(proxy.roll.kept().clone());
    let (cookies, mut again) = (proxy.cookies, again);
    assert!(again.deal().is_empty(), "what was kept is what it was");
    assert_eq!(cookies, 2);
}

#[test]
fn one_name_belongs_to_one_process_at_a_time() {
    let mut proxy = Proxy::new(Kept::default());
    let first = hello("one", 1, has("10.0.0.1", GUEST_ONE));
    assert_eq!(proxy.admit(&first), Ok(None));
    let second = hello("one", 2, has("10.0.0.5", GUEST_TWO));
    let why = proxy.admit(&second).unwrap_err();
    assert!(why.contains("two cannot have one name"), "{why}");
    // The same process by another way: the old connection is over.
    assert_eq!(proxy.admit(&first), Ok(Some(1)));
    assert_eq!(proxy.roll.gone(1), None);
    assert_eq!(proxy.roll.gone(3), Some("one".into()));
    assert_eq!(proxy.admit(&second), Ok(None));
    let as_proxy = hello("proxy", 3, has("10.0.0.3", GUEST_ONE));
    assert!(proxy.admit(&as_proxy).is_err());
}

#[test]
fn an_address_moves_to_who_is_there() {
    let mut proxy = Proxy::new(Kept::default());
    proxy
        .admit(&hello("old", 1, has("10.0.0.1", GUEST_ONE)))
        .unwrap();
    let new = hello("new", 2, has("10.0.0.1", GUEST_TWO));
    let why = proxy.admit(&new).unwrap_err();
    assert_eq!(
        why,
        "its underlay address 10.0.0.1 is the one of old, which is connected"
    );
    proxy.roll.gone(1);
    proxy.admit(&new).unwrap();
    proxy.deal();
    assert!(proxy.roll.part("old").unwrap().links.is_empty());
    let links = &proxy.roll.part("proxy").unwrap().links;
    let names: Vec<_> = links.iter().map(|link| link.name.as_str()).collect();
    assert_eq!(names, ["to-new", "tls-to-new"]);
}

#[test]
fn what_no_agent_can_have_is_refused() {
    let mut proxy = Proxy::new(Kept::default());
    let other_port = Introduction {
        udp_port: 4789,
        ..has("10.0.0.1", GUEST_ONE)
    };
    let mut crowd = has("10.0.0.1", GUEST_ONE);
    crowd.ports[0].stations = vec![GUEST_ONE; STATIONS_MAX];
    for (has, word) in [
        (other_port, "UDP port 4789"),
        (crowd, "more ports or stations"),
        (has("127.0.0.1", GUEST_ONE), "loopback"),
        (has("10.0.0.9", GUEST_ONE), "is the one of the proxy"),
    ] {
        let why = proxy.admit(&hello("one", 1, has)).unwrap_err();
        assert!(why.contains(word), "{why}");
    }
    assert!(proxy.roll.present().is_empty() && proxy.roll.kept().agents.is_empty());
    let group = has("10.0.0.1", Mac::BROADCAST);
    proxy.admit(&hello("one", 1, group)).unwrap();
    assert!(proxy.roll.kept().agents["one"].ports[0].stations.is_empty());
}

#[test]
fn a_proxy_with_an_old_copy_of_what_it_knew_deals_nothing() {
    let mut proxy = Proxy::new(Kept::default());
    proxy.deal();
    let old = proxy.roll.kept().clone();
    let one = hello("one", 1, has("10.0.0.1", GUEST_ONE));
    proxy.admit(&one).unwrap();
    proxy.deal();
    let own = proxy.roll.part("proxy").unwrap().revision;
    let mut again = Proxy::new(old.clone());
    again.roll.goes_by_itself(own);
    again.admit(&one).unwrap();
    let hub = Hub {
        name: "proxy",
        introduction: &again.introduction,
        networks: &again.networks,
    };
    let why = again.roll.deal(&hub, NOW_MS, || Ok::<_, String>(Cookie(1)));
    assert!(why.unwrap_err().contains("older state"));
    assert_eq!(again.roll.kept().revision, old.revision);
    // One that knows nothing begins anew, after whatever was there, even if its clock is slow.
    let mut anew = Proxy::new(Kept::default());
    anew.roll.goes_by_itself(NOW_MS + 1000);
    anew.deal();
    assert!(anew.roll.part("proxy").unwrap().revision > NOW_MS + 1000);
}

/// Everything that the proxy does with frames for this station, oldest rule first.
fn led_to(proxy: &Proxy, station: Mac) -> Vec<Target> {
    let part = proxy.roll.part("proxy").unwrap();
    let about = |rule: &&Rule| rule.destination == Destination::Is(station);
    let rules = part.rules.iter().filter(about);
    rules.map(|rule| rule.to.clone()).collect()
}

#[test]
fn whom_a_topology_does_not_name_the_star_has() {
    const LATER: Mac = Mac([2, 0, 0, 0, 0, 7]);
    let to_one = || vec![Target::Link("to-one".into())];
    let to_two = || vec![Target::Link("to-two".into())];
    let mut proxy = Proxy::new(Kept::default());
    proxy
        .admit(&hello("one", 1, has("10.0.0.1", GUEST_ONE)))
        .unwrap();
    proxy.deal();
    let hub = Hub {
        name: "proxy",
        introduction: &proxy.introduction,
        networks: &proxy.networks,
    };
    let shown = picture(&hub, proxy.roll.kept());
    proxy.roll.set_topology(Some(shown.clone()));
    let as_shown = proxy.roll.part("proxy").unwrap().clone();
    proxy.deal();
    let applied = proxy.roll.part("proxy").unwrap();
    assert_eq!(applied.links, as_shown.links, "nobody is unnamed");
    assert_eq!(led_to(&proxy, GUEST_ONE), to_one());

    // A VM more, and a host more.
    let mut more = has("10.0.0.1", GUEST_ONE);
    more.ports[0].stations.push(LATER);
    proxy.admit(&hello("one", 1, more)).unwrap();
    proxy
        .admit(&hello("two", 2, has("10.0.0.2", GUEST_TWO)))
        .unwrap();
    proxy.deal();
    assert_eq!(led_to(&proxy, LATER), to_one());
    assert_eq!(led_to(&proxy, GUEST_TWO), to_two());
    let part = proxy.roll.part("proxy").unwrap();
    let names: Vec<&str> = part.links.iter().map(|link| link.name.as_str()).collect();
    assert_eq!(names, ["to-one", "tls-to-one", "to-two", "tls-to-two"]);

    // What it names is as it says, also where it says that it goes nowhere.
    let mut shut = shown;
    shut.rules
        .retain(|rule| rule.destination != Destination::Is(GUEST_ONE));
    proxy.roll.set_topology(Some(shut.clone()));
    proxy.deal();
    assert_eq!(led_to(&proxy, GUEST_ONE), [], "the VM is named");
    assert_eq!(led_to(&proxy, GUEST_TWO), to_two());
    shut.links.clear();
    shut.rules.clear();
    proxy.roll.set_topology(Some(shut));
    proxy.deal();
    assert_eq!(led_to(&proxy, LATER), [], "the text gives one no link");
    assert_eq!(led_to(&proxy, GUEST_TWO), to_two());
}
