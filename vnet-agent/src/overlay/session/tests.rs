//! Two ends and a path between them that fails: what was said is lost, comes late, and the rest of
//! an old connection is never seen in a new one, as TCP has it.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;
use crate::model::part::Part;
use crate::overlay::message::{Call, Hello, Introduction, ToAgent, ToProxy, VERSION};

const MS: Duration = Duration::from_millis(1);

fn hello(held: Option<u64>) -> Hello {
    Hello {
        version: VERSION,
        name: "one".into(),
        software: "0.1.0".into(),
        schema: 2,
        instance: 1,
        held,
        introduction: Introduction::default(),
    }
}

fn part(revision: u64) -> Part {
    Part {
        revision,
        ..Part::default()
    }
}

/// An agent that is together with its proxy, at 0.
fn together() -> AgentEnd {
    let mut end = AgentEnd::new(hello(None), Duration::ZERO);
    let now = Duration::ZERO;
    assert_eq!(end.step(now, AgentEvent::Tick), [AgentDeed::Dial]);
    assert!(matches!(
        end.step(now, AgentEvent::Dialled).as_slice(),
        [AgentDeed::Say(ToProxy::Hello(_))]
    ));
    let accepted = ToAgent::Accepted { proxy: "p".into() };
    assert_eq!(
        end.step(now, AgentEvent::Heard(accepted)),
        [AgentDeed::Together("p".into())]
    );
    end
}

#[test]
fn silence_is_noticed_in_six_tenths_of_a_second_and_answered_by_dialling() {
    let mut end = together();
    let mut alive = 0;
    let (now, parted) = loop {
        let now = end.due();
        match end.step(now, AgentEvent::Tick).as_slice() {
            [AgentDeed::Say(ToProxy::Alive)] => alive += 1,
            deeds => break (now, deeds.to_vec()),
        }
    };
    assert_eq!(parted, [AgentDeed::HangUp(Parting::Silence)]);
    assert_eq!((now, alive), (600 * MS, 3));
    let again = end.due();
    assert!(again - now <= 20 * MS);
    assert_eq!(end.step(again, AgentEvent::Tick), [AgentDeed::Dial]);
}

#[test]
fn who_is_refused_waits_longer_each_time_and_who_finds_nobody_does_not() {
    let mut end = AgentEnd::new(hello(None), Duration::ZERO);
    let mut waits = Vec::new();
    for refused in [
        true, true, true, true, true, true, true, false, false, false, false, false,
    ] {
        let now = end.due();
        assert_eq!(end.step(now, AgentEvent::Tick), [AgentDeed::Dial]);
        if refused {
            end.step(now, AgentEvent::Dialled);
            let why = "another one".into();
            end.step(now, AgentEvent::Heard(ToAgent::Refused { why }));
        } else {
            end.step(now, AgentEvent::Lost("nobody".into()));
        }
        waits.push((end.due() - now).as_millis());
    }
    let expected = [160, 320, 640, 1280, 2560, 5000, 5000, 20, 40, 80, 160, 160];
    assert_eq!(waits, expected);
}

#[test]
fn a_way_that_is_long_is_dialled_anew_and_the_first_attempt_may_still_get_there() {
    let mut end = AgentEnd::new(hello(None), Duration::ZERO);
    for attempt in 0..4 {
        let now = end.due();
        assert_eq!(now, attempt * DIAL_MAX);
        assert_eq!(end.step(now, AgentEvent::Tick), [AgentDeed::Dial]);
    }
    let said = end.step(end.due() - MS, AgentEvent::Dialled);
    assert!(matches!(
        said.as_slice(),
        [AgentDeed::Say(ToProxy::Hello(_))]
    ));
    // One that comes too late finds the first.
    assert_eq!(end.step(end.due() - MS, AgentEvent::Dialled), []);
}

#[test]
fn a_proxy_that_is_alive_and_accepts_nobody_is_left() {
    let mut end = AgentEnd::new(hello(None), Duration::ZERO);
    end.step(Duration::ZERO, AgentEvent::Tick);
    end.step(Duration::ZERO, AgentEvent::Dialled);
    let mut now = Duration::ZERO;
    let left = loop {
        now = end.due().min(now + 100 * MS);
        let deeds = end.step(now, AgentEvent::Tick);
        if let [AgentDeed::HangUp(why)] = deeds.as_slice() {
            break why.clone();
        }
        assert!(now < ACCEPT_MAX, "{now:?}");
        assert_eq!(end.step(now, AgentEvent::Heard(ToAgent::Alive)), []);
    };
    assert_eq!((now, left), (ACCEPT_MAX, Parting::Silence));
    // It tries again, and who is accepted in time stays.
    assert_eq!(end.step(end.due(), AgentEvent::Tick), [AgentDeed::Dial]);
    end.step(now, AgentEvent::Dialled);
    let accepted = ToAgent::Accepted { proxy: "p".into() };
    end.step(now, AgentEvent::Heard(accepted));
    for _ in 0..100 {
        now += 100 * MS;
        end.step(now, AgentEvent::Heard(ToAgent::Alive));
        end.step(now, AgentEvent::Tick);
        assert!(end.is_together());
    }
}

#[test]
fn a_proxy_that_talks_out_of_turn_is_left() {
    let mut end = AgentEnd::new(hello(None), Duration::ZERO);
    end.step(Duration::ZERO, AgentEvent::Tick);
    end.step(Duration::ZERO, AgentEvent::Dialled);
    let left = end.step(MS, AgentEvent::Heard(ToAgent::Part(part(1))));
    assert!(matches!(
        left.as_slice(),
        [AgentDeed::HangUp(Parting::Nonsense(_))]
    ));
}

fn proxy_end() -> ProxyEnd {
    ProxyEnd::new("one".into(), Duration::from_secs(60), Duration::ZERO)
}

#[test]
fn who_does_not_say_who_he_is_in_time_is_left() {
    let mut end = proxy_end();
    assert_eq!(end.step(1999 * MS, ProxyEvent::Tick), []);
    let left = end.step(HELLO_MAX, ProxyEvent::Tick);
    assert_eq!(left, [ProxyDeed::HangUp(Parting::Silence)]);
    // And nothing that is still on its way is listened to.
    let late = ProxyEvent::Heard(ToProxy::Hello(Box::new(hello(None))));
    assert_eq!(end.step(HELLO_MAX, late), []);
}

#[test]
fn another_version_or_name_is_refused_with_words() {
    let version = Hello {
        version: VERSION + 1,
        ..hello(None)
    };
    let name = Hello {
        name: "two".into(),
        ..hello(None)
    };
    for (hello, word) in [
        (version, "the same release"),
        (name, "certificate is for \"one\""),
    ] {
        let deeds = proxy_end().step(MS, ProxyEvent::Heard(ToProxy::Hello(Box::new(hello))));
        let [
            ProxyDeed::Say(ToAgent::Refused { why }),
            ProxyDeed::HangUp(Parting::Refused(_)),
        ] = deeds.as_slice()
        else {
            panic!("{deeds:?}");
        };
        assert!(why.contains(word), "{why}");
    }
}

#[test]
fn anything_before_the_hello_ends_the_connection() {
    for said in [ToProxy::Alive, ToProxy::Kept { revision: 1 }] {
        let deeds = proxy_end().step(MS, ProxyEvent::Heard(said));
        assert!(matches!(
            deeds.as_slice(),
            [ProxyDeed::HangUp(Parting::Nonsense(_))]
        ));
    }
}

#[test]
fn a_session_ends_with_its_certificate_unless_that_is_renewed() {
    let admitted = || {
        let mut end = ProxyEnd::new("one".into(), 300 * MS, Duration::ZERO);
        end.step(MS, ProxyEvent::Heard(ToProxy::Hello(Box::new(hello(None)))));
        end.step(MS, ProxyEvent::Admitted("p".into()));
        end
    };
    let mut end = admitted();
    let over = end.step(300 * MS, ProxyEvent::Tick);
    assert_eq!(over.last(), Some(&ProxyDeed::HangUp(Parting::Expired)));
    let mut end = admitted();
    let renewed = Ok((vec![1], vec![2], Duration::from_secs(60)));
    end.step(200 * MS, ProxyEvent::Renewed(renewed));
    let alive = end.step(350 * MS, ProxyEvent::Tick);
    assert_eq!(alive, [ProxyDeed::Say(ToAgent::Alive)]);
}

/// What goes wrong, and for how long.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// Nothing.
    None,
    /// Packets vanish both ways, and the connection stays.
    Cut,
    /// The connection is reset.
    Reset,
    /// The proxy restarts with what it had.
    Restart,
    /// The overlay changes.
    Change,
    /// The agent's disk takes long.
    SlowDisk,
}

/// Both ends, and what is on its way between them.
struct World {
    now: Duration,
    agent: AgentEnd,
    proxy: Option<ProxyEnd>,
    to_agent: VecDeque<(Duration, ToAgent)>,
    to_proxy: VecDeque<(Duration, ToProxy)>,
    keeping: VecDeque<(Duration, Part)>,
    kept: Vec<u64>,
    latest: u64,
    is_cut: bool,
    disk: Duration,
    delay: Duration,
}

impl World {
    fn new(delay: Duration) -> Self {
        Self {
            now: Duration::ZERO,
            agent: AgentEnd::new(hello(None), Duration::ZERO),
            proxy: None,
            to_agent: VecDeque::new(),
            to_proxy: VecDeque::new(),
            keeping: VecDeque::new(),
            kept: Vec::new(),
            latest: 1,
            is_cut: false,
            disk: MS,
            delay,
        }
    }

    fn tell_agent(&mut self, event: AgentEvent) {
        for deed in self.agent.step(self.now, event) {
            match deed {
                AgentDeed::Dial if self.is_cut => {}
                AgentDeed::Dial => {
                    let for_long = Duration::from_secs(9999);
                    self.proxy = Some(ProxyEnd::new("one".into(), for_long, self.now));
                    self.tell_agent(AgentEvent::Dialled);
                }
                AgentDeed::HangUp(_) => self.disconnect(),
                AgentDeed::Say(said) => {
                    let at = self.now + self.delay;
                    self.to_proxy.push_back((at, said));
                }
                AgentDeed::Keep(part) => {
                    let at = self.now + self.disk;
                    self.keeping.push_back((at, part));
                }
                AgentDeed::Together(_)
                | AgentDeed::TakeCertificate(_)
                | AgentDeed::Call(_)
                | AgentDeed::Replied(_) => {}
            }
        }
    }

    fn tell_proxy(&mut self, event: ProxyEvent) {
        let Some(mut proxy) = self.proxy.take() else {
            return;
        };
        let deeds = proxy.step(self.now, event);
        self.proxy = Some(proxy);
        for deed in deeds {
            match deed {
                ProxyDeed::Say(said) => {
                    let at = self.now + self.delay;
                    self.to_agent.push_back((at, said));
                }
                ProxyDeed::HangUp(_) => {
                    self.proxy = None;
                    self.to_proxy.clear();
                }
                ProxyDeed::Ask(_) => {
                    self.tell_proxy(ProxyEvent::Admitted("p".into()));
                    self.tell_proxy(ProxyEvent::Part(part(self.latest)));
                }
                _ => {}
            }
        }
    }

    fn disconnect(&mut self) {
        self.proxy = None;
        self.to_agent.clear();
        self.to_proxy.clear();
    }

    fn apply(&mut self, fault: Fault) {
        match fault {
            Fault::None => {}
            Fault::Cut => self.is_cut = true,
            Fault::Reset | Fault::Restart => {
                self.disconnect();
                self.tell_agent(AgentEvent::Lost("reset".into()));
            }
            Fault::Change => {
                self.latest += 1;
                self.tell_proxy(ProxyEvent::Part(part(self.latest)));
            }
            Fault::SlowDisk => self.disk = 150 * MS,
        }
    }

    fn run(&mut self, until: Duration) {
        while self.now < until {
            self.now += MS;
            // A connection loses nothing in its middle: what is due while the path is cut is sent again, and
            // arrives when it is back, unless the connection is over by then.
            let is_open = !self.is_cut;
            let is_due = |at: &Duration, now| is_open && *at <= now;
            while self
                .to_proxy
                .front()
                .is_some_and(|(at, _)| is_due(at, self.now))
            {
                let (_, said) = self.to_proxy.pop_front().unwrap();
                self.tell_proxy(ProxyEvent::Heard(said));
            }
            while self
                .to_agent
                .front()
                .is_some_and(|(at, _)| is_due(at, self.now))
            {
                let (_, said) = self.to_agent.pop_front().unwrap();
                self.tell_agent(AgentEvent::Heard(said));
            }
            while self.keeping.front().is_some_and(|(at, _)| *at <= self.now) {
                let (_, part) = self.keeping.pop_front().unwrap();
                if self.kept.last() < Some(&part.revision) {
                    self.kept.push(part.revision);
                }
                self.tell_agent(AgentEvent::Kept(part.revision));
            }
            if self.agent.due() <= self.now {
                self.tell_agent(AgentEvent::Tick);
            }
            if self.proxy.as_ref().is_some_and(|end| end.due() <= self.now) {
                self.tell_proxy(ProxyEvent::Tick);
            }
        }
    }
}

fn some_fault() -> impl Strategy<Value = Fault> {
    prop::sample::select(vec![
        Fault::None,
        Fault::Cut,
        Fault::Reset,
        Fault::Restart,
        Fault::Change,
        Fault::SlowDisk,
    ])
}

proptest! {
    #[test]
    fn the_last_part_is_in_force_within_a_second_of_the_paths_return(
        faults in prop::collection::vec((some_fault(), 1..1500_u64), 0..12),
        delay in 0..50_u64,
    ) {
        let mut world = World::new(Duration::from_millis(delay));
        for (fault, for_ms) in faults {
            world.apply(fault);
            world.run(world.now + Duration::from_millis(for_ms));
            world.is_cut = false;
            world.disk = MS;
        }
        world.run(world.now + Duration::from_secs(1));
        prop_assert!(world.agent.is_together());
        prop_assert_eq!(world.kept.last(), Some(&world.latest));
    }
}

#[test]
fn nothing_is_asked_before_both_are_together() {
    let call = || Call {
        number: 1,
        method: "GET".into(),
        path: "/v1/topology".into(),
        body: String::new(),
    };
    let mut agent = AgentEnd::new(hello(None), Duration::ZERO);
    assert_eq!(agent.step(MS, AgentEvent::Call(call())), []);
    let mut proxy = ProxyEnd::new("one".into(), Duration::from_secs(9), Duration::ZERO);
    assert_eq!(proxy.step(MS, ProxyEvent::Call(call())), []);
    let deeds = proxy.step(MS, ProxyEvent::Heard(ToProxy::Call(call())));
    let is_over = matches!(deeds[..], [ProxyDeed::HangUp(Parting::Nonsense(_))]);
    assert!(is_over, "{deeds:?}");
}
