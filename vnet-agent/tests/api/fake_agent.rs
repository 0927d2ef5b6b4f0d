//! An agent without a data plane: it answers every ask with fixed values and remembers it.
//!
//! Some names make it refuse, each with one kind of refusal; see [`refusal_for`].

mod way;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use vnet_agent::api::pass::PassOn;
use vnet_agent::api::route::router;
use vnet_agent::api::socket::listen_on;
use vnet_agent::api::stream::{Event, Teller};
use vnet_agent::api::{
    ASKS_WAITING_MAX, AgentStats, AgentStatus, Agents, Answer, AppliedTopology, Ask, Change,
    ChangeOutcome, Connection, EntriesStatus, Flow, Flows, HostRun, Interface, InterfaceState,
    Invited, KernelRun, LedgerValues, LinkRung, LinkState, LinkStatus, LinksSummary, Place,
    Problem, Refusal, RemoteStatus, Request, RolloutStage, RolloutState, RolloutStatus, RuleStatus,
    Severity, SideStats, Stats, Status, TopologyPlan, TopologyStatus, TraceReport, TraceRequest,
    Verdict, http,
};
use vnet_agent::model::configuration::{Limits, Underlay, UnderlayMatch};
use vnet_agent::model::counting::Counting;
use vnet_agent::model::door::Door;
use vnet_agent::model::{
    Addresses, Configuration, Flooding, Link, Network, Rule, RuleOrigin, Target, Transport,
};
use vnet_common::addr::{Cookie, Mac, NetworkId};
use vnet_common::reason::Reason;
use vnet_common::rule::{Destination, Source};

pub const GUEST_ONE: Mac = Mac([0x52, 0x54, 0, 0, 0, 1]);
pub const GUEST_TWO: Mac = Mac([0x52, 0x54, 0, 0, 0, 2]);
/// A frame from this source is refused: it belongs to no port.
pub const STRANGER: Mac = Mac([0x52, 0x54, 0, 0, 0, 9]);

/// The agent's task, and the server in front of it.
pub struct FakeAgent {
    directory: TempDir,
    events: Teller,
    asked: Arc<Mutex<Vec<Ask>>>,
    asks: mpsc::Sender<Request>,
    stop: oneshot::Sender<()>,
    server: JoinHandle<()>,
}

impl FakeAgent {
    /// An agent that is healthy.
    pub fn start() -> Self {
        Self::start_as(true)
    }

    /// An agent whose link to host two is unresolved.
    pub fn start_degraded() -> Self {
        Self::start_as(false)
    }

    fn start_as(healthy: bool) -> Self {
        let (sender, mut requests) = mpsc::channel::<Request>(ASKS_WAITING_MAX);
        let asked = Arc::new(Mutex::new(Vec::new()));
        let agent = Self::serve(sender, Arc::clone(&asked));
        tokio::spawn(async move {
            while let Some(Request { ask, reply }) = requests.recv().await {
                asked
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(ask.clone());
                if let Some(answer) = answer(ask, healthy) {
                    let _ = reply.send(answer);
                }
            }
        });
        agent
    }

    /// A server whose requests go to `sender`.
    pub fn serve(sender: mpsc::Sender<Request>, asked: Arc<Mutex<Vec<Ask>>>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (listener, file) = listen_on(&directory.path().join("agent.sock"), None).unwrap();
        let (stop, stopped) = oneshot::channel();
        let events = Teller::default();
        let told = events.clone();
        let asks = sender.clone();
        let server = tokio::spawn(async move {
            http::serve(listener, sender, told, PassOn::default(), async {
                let _ = stopped.await;
            })
            .await;
            drop(file);
        });
        Self {
            directory,
            events,
            asked,
            asks,
            stop,
            server,
        }
    }

    /// Where it listens.
    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("agent.sock")
    }

    /// Its paths, for another listener.
    pub fn router(&self) -> axum::Router {
        router(self.asks.clone(), self.events.clone(), PassOn::default())
    }

    /// Tells those who listen.
    pub fn tell(&self, event: Event) {
        self.events.tell(event);
    }

    /// A directory that goes with it.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// What it was asked so far, and forgets.
    pub fn asked(&self) -> Vec<Ask> {
        std::mem::take(&mut self.asked.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Tells the server to stop; ready when it has.
    pub async fn stop(self) -> TempDir {
        let _ = self.stop.send(());
        self.server.await.unwrap();
        self.directory
    }

    /// Sends a request and reads the response.
    pub async fn request(&self, method: &str, path: &str, body: &str) -> HttpResponse {
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        self.exchange(request.as_bytes()).await
    }

    /// Sends these bytes and reads the response.
    pub async fn exchange(&self, bytes: &[u8]) -> HttpResponse {
        let mut stream = UnixStream::connect(self.socket()).await.unwrap();
        // A server that has heard enough may close before all is written.
        let _ = stream.write_all(bytes).await;
        HttpResponse::read(&mut stream).await
    }
}

/// A response, taken apart by hand.
#[derive(Debug)]
pub struct HttpResponse {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl HttpResponse {
    /// Reads to the end of the connection. Status 0 where nothing came.
    pub async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Self {
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes).await;
        let text = String::from_utf8(bytes).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|word| word.parse().ok())
            .unwrap_or(0);
        Self {
            status,
            head: head.to_ascii_lowercase(),
            body: body.to_owned(),
        }
    }

    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        assert!(
            self.head.contains("content-type: application/json"),
            "{self:?}"
        );
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The body as a refusal.
    pub fn refusal(&self) -> Refusal {
        serde_json::from_value(self.json()).unwrap()
    }
}

/// The refusal that a network or link of this name makes; `silent` is dropped without one.
fn refusal_for(name: &str) -> Option<Option<Refusal>> {
    match name {
        "missing" => Some(Some(
            Refusal::not_found("there is no missing").cure("make it"),
        )),
        "taken" => Some(Some(
            Refusal::conflict("taken is taken").cure("take another"),
        )),
        "wrong" => Some(Some(Refusal::invalid("wrong is wrong"))),
        "busy" => Some(Some(Refusal::unavailable("busy is busy").cure("wait"))),
        "broken" => Some(Some(Refusal::internal("the kernel said no"))),
        "silent" => Some(None),
        _ => None,
    }
}

fn answer(ask: Ask, healthy: bool) -> Option<Result<Answer, Refusal>> {
    let name = match &ask {
        Ask::AddLink(link) => Some(link.name.as_str()),
        Ask::DeleteLink { name, .. } | Ask::ForgetAgent { name } => Some(name.as_str()),
        Ask::AddRule(rule) => Some(rule.network.as_str()),
        Ask::DeleteRule { network, .. } => Some(network.as_str()),
        Ask::Rules { network } | Ask::Flows { network, .. } => network.as_deref(),
        _ => None,
    };
    if let Some(refusal) = name.and_then(refusal_for) {
        return refusal.map(Err);
    }
    let change = |outcome, subject| {
        Answer::Change(Change {
            outcome,
            subject,
            notes: vec!["a note".into()],
        })
    };
    Some(Ok(match ask {
        Ask::Status => Answer::Status(Box::new(status(healthy))),
        Ask::Interfaces => Answer::Interfaces(vec![interface()]),
        Ask::Links => Answer::Links(vec![link_status()]),
        Ask::Rules { .. } => Answer::Rules(vec![rule_status()]),
        Ask::AddLink(link) => change(ChangeOutcome::Added, format!("link {link}")),
        Ask::DeleteLink { name, .. } => change(ChangeOutcome::Deleted, format!("link {name}")),
        Ask::ChangeRules { .. } => change(ChangeOutcome::Added, "rules: 2 new".into()),
        Ask::AddRule(rule) => change(ChangeOutcome::Replaced, format!("rule {rule}")),
        Ask::DeleteRule { .. } => change(ChangeOutcome::Deleted, "rule".into()),
        Ask::Stats => Answer::Stats(Box::new(stats())),
        Ask::Flows { .. } => Answer::Flows(flows()),
        Ask::Drops { all } => Answer::Drops(stats().drops(all)),
        Ask::Trace(request) => return Some(trace(&request)),
        Ask::Agents => Answer::Agents(agents()),
        Ask::ForgetAgent { name } => change(ChangeOutcome::Deleted, format!("agent {name}")),
        Ask::Topology => Answer::Topology(Box::new(TopologyStatus {
            number: Some(3),
            topology: topology(),
        })),
        Ask::ApplyTopology(wanted) => Answer::TopologyPlan(plan(!wanted.dry_run)),
        Ask::UndoTopology(undo) => Answer::TopologyPlan(plan(!undo.dry_run)),
        Ask::TopologyHistory => Answer::TopologyHistory(vec![AppliedTopology {
            number: 3,
            applied_unix_ms: 1,
            changes: 1,
            undone_unix_ms: None,
            is_current: true,
        }]),
        Ask::Rollout => Answer::Rollout(RolloutStatus {
            state: RolloutState::Done,
            stages: vec![RolloutStage {
                name: "new links".into(),
                is_back: false,
                took_ms: Some(12),
            }],
            of: 1,
            waiting: Vec::new(),
            failed: BTreeMap::new(),
            astray: Vec::new(),
        }),
        Ask::Route(query) => return Some(way::route(&query)),
        Ask::Invite(wanted) => Answer::Invited(Invited {
            host: wanted.host,
            token: "vnet-AQ".into(),
            proxy: "10.0.0.9:6082".into(),
            expires_unix_s: wanted.expires_s,
        }),
        Ask::Configuration => Answer::Configuration(Box::new(configuration())),
    }))
}

/// A host and a VM of its own: what the fake agent is the proxy of.
pub const TEXT: &str = "BEGIN\n\nNETWORK blue 7\n\nHOST root AT hub 6081 eth0 PROXY\n\n\
                        VM vm1 52:54:00:00:00:01 ON hub tap0\n\nEND\n";

fn topology() -> vnet_agent::model::topology::Topology {
    vnet_agent::language::read("text", TEXT.as_bytes()).unwrap()
}

fn plan(applied: bool) -> TopologyPlan {
    TopologyPlan {
        applied,
        number: Some(3),
        changes: vec!["~ VM vm1 moves from one to hub".into()],
        warnings: vec!["no links lead from one to the proxy".into()],
        hosts: vec!["hub".into(), "one".into()],
        absent: vec!["one".into()],
    }
}

fn agents() -> Agents {
    let connection = Connection {
        from: "10.0.0.1:40000".into(),
        since_unix_ms: 1,
        software: "0.1.0".into(),
        schema: vnet_common::SCHEMA,
        revision: Some(7),
        declined: None,
        certificate_expires_unix_s: 2,
    };
    Agents {
        proxy: "hub".into(),
        address: "0.0.0.0:6082".into(),
        agents: vec![AgentStatus {
            name: "one".into(),
            connection: Some(connection),
            underlay: vec!["10.0.0.1".parse().unwrap()],
            ports: 1,
            processors: 2,
            memory_bytes: 1 << 30,
            dealt_revision: Some(7),
        }],
        turned_away: [("no certificate".to_owned(), 3)].into(),
    }
}

fn status(healthy: bool) -> Status {
    let problem = Problem {
        severity: Severity::Degraded,
        subject: "link to-two".into(),
        message: "10.0.0.2 does not answer".into(),
        cure: Some("ping 10.0.0.2".into()),
    };
    Status {
        name: "host-one".into(),
        version: "0.1.0".into(),
        pid: 1,
        uptime_s: 60,
        kernel: "6.18.0".into(),
        schema: vnet_common::SCHEMA,
        healthy,
        problems: if healthy { vec![] } else { vec![problem] },
        underlay: None,
        networks: vec![],
        ports: 1,
        doors: vec![],
        links: LinksSummary {
            total: 1,
            up: u32::from(healthy),
            unresolved: u32::from(!healthy),
        },
        tables: vec![],
        flows: EntriesStatus {
            entries: 1,
            capacity: 65_536,
        },
        events_lost: 0,
        redirect_failures: Counting::WhenRefused,
        memory_rss_bytes: None,
        last_change_unix_ms: None,
        configuration_source: "/etc/vnet/agent.toml".into(),
        overlay: None,
        remote: Some(RemoteStatus {
            address: "0.0.0.0:6083".into(),
            deaf: None,
            connections: 2,
            turned_away: [("no certificate".to_owned(), 3)].into(),
        }),
    }
}

fn interface() -> Interface {
    Interface {
        name: "tap0".into(),
        ifindex: Some(5),
        network: Some("blue".into()),
        addresses: Some(Addresses::Only(vec![GUEST_ONE])),
        learned: None,
        door: Some("xdp (native)".into()),
        door_why: Some("its guest sends complete frames".into()),
        mtu_bytes: Some(1430),
        guest_mtu_bytes: Some(1430),
        up: Some(true),
        state: InterfaceState::Forwarding,
        note: None,
    }
}

fn link_status() -> LinkStatus {
    LinkStatus {
        name: "to-two".into(),
        id: 0,
        remote: [10, 0, 0, 2].into(),
        networks: vec!["blue".into()],
        kind: Transport::Udp,
        plain: false,
        flood: Flooding::FromPorts,
        state: LinkState::Up,
        note: None,
        device: Some("eth0".into()),
        next_hop_mac: Some(GUEST_TWO),
        source: Some([10, 0, 0, 1].into()),
        fallback: None,
        instead: None,
        rung_of: None,
        rung: LinkRung {
            kind: Transport::Udp,
            why: "its other end answers over udp".into(),
            since_unix_ms: Some(1_790_000_000_000),
        },
        since_unix_ms: None,
        guest_mtu_bytes: Some(1430),
        mtu: None,
        sent_packets: 1,
        sent_bytes: 60,
        received_packets: 2,
        received_bytes: 120,
        connection: None,
    }
}

fn rule_status() -> RuleStatus {
    RuleStatus {
        network: "blue".into(),
        source: Source::Any,
        destination: Destination::Is(GUEST_TWO),
        to: Target::Link("to-two".into()),
        origin: RuleOrigin::File,
        strength: 9,
        resolved: true,
        note: None,
    }
}

fn stats() -> Stats {
    let ledger = LedgerValues {
        received_packets: 3,
        received_bytes: 180,
        forwarded: 2,
        dropped: 1,
        dropped_by_reason: BTreeMap::from([(Reason::NoRule, 1)]),
        balanced: true,
        ..LedgerValues::default()
    };
    Stats {
        ports: vec![SideStats {
            name: "tap0".into(),
            ledger,
        }],
        agent: AgentStats {
            ledger: LedgerValues {
                balanced: true,
                ..LedgerValues::default()
            },
            ..AgentStats::default()
        },
        ..Stats::default()
    }
}

fn flows() -> Flows {
    Flows {
        total: 1,
        flows: vec![Flow {
            network: "blue".into(),
            source: GUEST_ONE,
            destination: GUEST_TWO,
            packets: 2,
            bytes: 120,
            origin: Some(Place::Port("tap0".into())),
            verdict: Verdict::Forwarded,
            target: Some(Target::Link("to-two".into())),
            reason: None,
        }],
    }
}

/// Host and kernel differ for frames with the type 0xdead.
fn trace(request: &TraceRequest) -> Result<Answer, Refusal> {
    let frame = &request.frame;
    if frame.0.get(6..12) == Some(&STRANGER.0[..]) && request.from.is_none() {
        return Err(Refusal::invalid("no port has this source").cure("say where with --from"));
    }
    Ok(Answer::Trace(Box::new(TraceReport {
        from: request.from.clone().unwrap_or(Place::Port("tap0".into())),
        network: Some("blue".into()),
        steps: vec![],
        verdict: Verdict::Forwarded,
        reason: None,
        target: Some(Target::Link("to-two".into())),
        copies: vec![],
        links: vec![],
        door: Some(Door::Xdp),
        rule: Some(rule_status()),
        flow_cached: false,
        kernel: Some(KernelRun {
            action: "XDP_REDIRECT".into(),
            output_bytes: u32::try_from(frame.0.len()).unwrap(),
            output_hex: frame.clone(),
        }),
        host: HostRun {
            verdict: Verdict::Forwarded,
            output_hex: frame.clone(),
        },
        agree: Some(frame.0.get(12..14) != Some(&[0xde, 0xad])),
        outer: None,
        mtu_note: None,
    })))
}

fn configuration() -> Configuration {
    Configuration {
        underlay: Underlay {
            on: UnderlayMatch::Device("eth0".into()),
            udp_port: 6081,
            tcp_port: 6081,
            door: vnet_agent::model::door::DoorChoice::Auto,
        },
        networks: vec![Network {
            name: "blue".into(),
            id: NetworkId::new(7).unwrap(),
        }],
        ports: vec![],
        links: vec![Link {
            name: "to-two".into(),
            remote: [10, 0, 0, 2].into(),
            networks: vec!["blue".into()],
            cookie: Some(Cookie(1)),
            fallback: None,
            flood: Flooding::FromPorts,
            kind: Transport::Udp,
            listen_only: false,
            rung_of: None,
        }],
        rules: vec![Rule {
            network: "blue".into(),
            source: Source::Any,
            destination: Destination::None,
            to: Target::Flood,
            origin: RuleOrigin::File,
        }],
        limits: Limits::default(),
    }
}
