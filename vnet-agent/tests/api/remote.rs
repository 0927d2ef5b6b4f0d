//! Does the listener for those who are elsewhere let in whom it should and nobody else, and does
//! nobody there keep others out?

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tokio_rustls::client::TlsStream;
use vnet_agent::api::remote::tls::{HostTls, OperatorTls};
use vnet_agent::api::remote::{Door, Plan, run};
use vnet_agent::api::stream::{Event, EventKind};
use vnet_agent::api::{Answer, Ask, Request};
use vnet_agent::identity::revoked::Revoked;
use vnet_agent::identity::{Authority, Bundle, Role};
use vnet_agent::overlay::refusal::{Turned, TurnedCounts};

use crate::fake_agent::{FakeAgent, HttpResponse};

const HOUR: Duration = Duration::from_secs(3600);
const STATUS: &str = "GET /v1/status HTTP/1.1\r\nhost: here\r\n\r\n";
const EVENTS: &str = "GET /v1/events HTTP/1.1\r\nhost: here\r\n\r\n";

pub fn now_unix_s() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap().as_secs()
}

pub fn authority() -> Authority {
    Authority::create("overlay", now_unix_s(), 1000 * HOUR).unwrap()
}

pub fn issue(authority: &Authority, name: &str, role: Role) -> Bundle {
    authority.issue(name, role, now_unix_s(), HOUR).unwrap()
}

/// One that was over long ago.
pub fn over(authority: &Authority, name: &str, role: Role) -> Bundle {
    let then = now_unix_s() - 10 * HOUR.as_secs();
    authority.issue(name, role, then, HOUR).unwrap()
}

/// A listener in front of a fake agent.
pub struct Elsewhere {
    pub plan: watch::Sender<Plan>,
    pub door: Arc<Door>,
    pub revoked: watch::Sender<Arc<Revoked>>,
    pub at: SocketAddr,
    task: JoinHandle<()>,
}

impl Elsewhere {
    /// Listens for the agent, as this host.
    pub async fn of(agent: &FakeAgent, host: &Bundle) -> Self {
        let (plan, planned) = watch::channel(Plan {
            address: Some("127.0.0.1:0".parse().unwrap()),
            tls: Some(HostTls::new(host).unwrap()),
        });
        let revoked = watch::Sender::default();
        let door = Arc::new(Door::new(agent.router(), revoked.subscribe()));
        let task = tokio::spawn(run(planned, Arc::clone(&door)));
        let at = heard(&door).await;
        Self {
            plan,
            door,
            revoked,
            at,
            task,
        }
    }

    async fn connect(&self, who: &Bundle) -> TlsStream<TcpStream> {
        let stream = TcpStream::connect(self.at).await.unwrap();
        let tls = OperatorTls::new(who).unwrap();
        tls.greet(stream).await.unwrap().0
    }

    async fn exchange(&self, who: &Bundle, bytes: &[u8]) -> HttpResponse {
        let mut stream = self.connect(who).await;
        // A server that has heard enough may close before all is written.
        let _ = stream.write_all(bytes).await;
        HttpResponse::read(&mut stream).await
    }

    async fn request(&self, who: &Bundle, method: &str, path: &str, body: &str) -> HttpResponse {
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: here\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        self.exchange(who, request.as_bytes()).await
    }

    /// What somebody is told by TLS who may not come in.
    async fn refused(&self, who: &Bundle) -> String {
        let mut stream = self.connect(who).await;
        let _ = stream.write_all(STATUS.as_bytes()).await;
        stream
            .read_to_end(&mut Vec::new())
            .await
            .unwrap_err()
            .to_string()
    }

    fn count(&self, why: Turned) -> u64 {
        self.door.counts().get(&why).copied().unwrap_or(0)
    }

    async fn until(&self, why: Turned, count: u64) {
        while self.count(why) < count {
            sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(self.count(why), count, "{why}");
    }
}

async fn heard(door: &Door) -> SocketAddr {
    loop {
        if let Some(at) = door.heard_at() {
            return at;
        }
        sleep(Duration::from_millis(1)).await;
    }
}

/// An agent, its authority, a listener, and an operator.
async fn all() -> (FakeAgent, Authority, Elsewhere, Bundle) {
    let agent = FakeAgent::start();
    let authority = authority();
    let elsewhere = Elsewhere::of(&agent, &issue(&authority, "hub", Role::Proxy)).await;
    let operator = issue(&authority, "alice", Role::Operator);
    (agent, authority, elsewhere, operator)
}

const PLAN: &str = r#"{"dry_run": true}"#;

#[tokio::test]
async fn operators_may_all_and_readers_ask_and_plan() {
    let (agent, authority, elsewhere, operator) = all().await;
    let reader = issue(&authority, "bob", Role::Reader);
    let rule = r#"{"network": "blue", "destination": "none", "to": "flood"}"#;
    let invite = r#"{"host": "two", "expires_s": 60}"#;
    let trace = r#"{"frame": "525400000002525400000001080045"}"#;
    for (method, path, body, to_operator, to_reader) in [
        ("GET", "/v1/status", "", 200, 200),
        ("GET", "/v1/configuration", "", 200, 200),
        ("GET", "/metrics", "", 200, 200),
        ("POST", "/v1/rules", rule, 200, 403),
        ("PATCH", "/v1/rules", "{}", 201, 403),
        ("DELETE", "/v1/links/to-two", "", 200, 403),
        ("POST", "/v1/invites", invite, 200, 403),
        ("POST", "/v1/trace", trace, 200, 403),
        ("POST", "/v1/topology/undo", PLAN, 200, 200),
        ("POST", "/v1/topology/undo", "{}", 200, 403),
        (
            "POST",
            "/v1/topology/undo",
            r#"{"dry_run": false}"#,
            200,
            403,
        ),
        (
            "POST",
            "/v1/topology/undo",
            r#"{"dry_run": true, "dry_run": false}"#,
            400,
            403,
        ),
        ("POST", "/v1/topology/", PLAN, 404, 403),
        ("GET", "/v1/nothing", "", 404, 404),
    ] {
        let response = elsewhere.request(&operator, method, path, body).await;
        assert_eq!(
            response.status, to_operator,
            "{method} {path}: {response:?}"
        );
        agent.asked();
        let response = elsewhere.request(&reader, method, path, body).await;
        assert_eq!(response.status, to_reader, "{method} {path}: {response:?}");
        if to_reader == 403 {
            assert_eq!(agent.asked(), [], "{method} {path}");
            let refusal = response.refusal().to_string();
            assert!(
                refusal.contains("bob") && refusal.contains("reader"),
                "{refusal}"
            );
        }
    }
    assert_eq!(elsewhere.count(Turned::Forbidden), 9);
    let shown = elsewhere
        .request(&reader, "GET", "/v1/configuration", "")
        .await;
    assert!(!shown.body.contains("cookie"), "{}", shown.body);
}

#[tokio::test]
async fn who_has_no_right_certificate_is_told_so_and_counted() {
    let (agent, authority, elsewhere, operator) = all().await;
    let other = self::authority();
    let mut expected = TurnedCounts::new();

    // It believes our authority, and shows a certificate of another.
    let foreign = issue(&other, "eve", Role::Operator);
    let mixed = {
        // Told the other authority, it would not talk to us at all.
        let stream = TcpStream::connect(elsewhere.at).await.unwrap();
        let error = OperatorTls::new(&foreign).unwrap().greet(stream).await;
        let said = error.unwrap_err().to_string();
        assert!(said.contains("BadSignature"), "{said}");
        expected.insert(Turned::Distrust, 1);
        mixed(&foreign, &authority)
    };
    let said = told(&elsewhere, mixed).await;
    // Authorities may have the same name; their keys differ.
    assert!(said.contains("DecryptError"), "{said}");
    expected.insert(Turned::UnknownAuthority, 1);

    let said = elsewhere
        .refused(&over(&authority, "alice", Role::Operator))
        .await;
    assert!(said.contains("CertificateExpired"), "{said}");
    expected.insert(Turned::Expired, 1);

    let said = told(&elsewhere, nameless(&authority)).await;
    assert!(said.contains("CertificateRequired"), "{said}");
    expected.insert(Turned::NoCertificate, 1);

    for role in [Role::Agent, Role::Proxy] {
        let host = issue(&authority, "one", role);
        let response = elsewhere.exchange(&host, STATUS.as_bytes()).await;
        assert_eq!(response.status, 403, "{response:?}");
        let refusal = response.refusal();
        assert!(refusal.message.contains(&role.to_string()), "{refusal}");
        assert!(refusal.cure.unwrap().contains("--role operator"));
    }
    expected.insert(Turned::WrongRole, 2);

    let mut stream = TcpStream::connect(elsewhere.at).await.unwrap();
    stream.write_all(TLS_1_2).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    // A fatal alert: protocol_version.
    assert_eq!(answer, [21, 3, 3, 0, 2, 2, 70]);
    let mut stream = TcpStream::connect(elsewhere.at).await.unwrap();
    stream.write_all(STATUS.as_bytes()).await.unwrap();
    let _ = stream.read_to_end(&mut Vec::new()).await;
    expected.insert(Turned::NoTls, 2);

    elsewhere.until(Turned::NoTls, 2).await;
    assert_eq!(elsewhere.door.counts(), expected);
    assert_eq!(agent.asked(), []);
    let response = elsewhere.exchange(&operator, STATUS.as_bytes()).await;
    assert_eq!(response.status, 200);
}

/// A client hello that offers TLS 1.2 and no more.
const TLS_1_2: &[u8] = &[
    22, 3, 1, 0, 63, 1, 0, 0, 59, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
    1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 2, 0xc0, 0x2b, 1, 0, 0, 16, 0, 10, 0, 4, 0, 2, 0, 23,
    0, 13, 0, 4, 0, 2, 4, 3,
];

type Config = rustls::ClientConfig;

fn client(authority: &Authority) -> rustls::ConfigBuilder<Config, rustls::client::WantsClientCert> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(authority.certificate().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Config::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
}

/// Somebody who believes an authority, and is vouched for by another.
fn mixed(who: &Bundle, authority: &Authority) -> Config {
    let shown = client(authority).with_client_auth_cert(who.chain(), who.key());
    shown.unwrap()
}

/// Somebody who shows nothing.
fn nameless(authority: &Authority) -> Config {
    client(authority).with_no_client_auth()
}

async fn told(elsewhere: &Elsewhere, config: Config) -> String {
    let stream = TcpStream::connect(elsewhere.at).await.unwrap();
    let name = Role::Proxy.server_name().try_into().unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let mut stream = connector.connect(name, stream).await.unwrap();
    let _ = stream.write_all(STATUS.as_bytes()).await;
    stream
        .read_to_end(&mut Vec::new())
        .await
        .unwrap_err()
        .to_string()
}

#[tokio::test]
async fn a_host_proves_that_it_is_one() {
    let agent = FakeAgent::start();
    let authority = authority();
    let operator = issue(&authority, "alice", Role::Operator);
    for role in Role::ALL {
        let elsewhere = Elsewhere::of(&agent, &issue(&authority, "one", role)).await;
        let stream = TcpStream::connect(elsewhere.at).await.unwrap();
        let greeted = OperatorTls::new(&operator).unwrap().greet(stream).await;
        match greeted {
            Ok((_, says)) => assert_eq!((says.name.as_str(), says.role), ("one", role)),
            Err(error) => {
                assert!(!role.is_host(), "{role}: {error}");
                elsewhere.until(Turned::Distrust, 1).await;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn who_does_not_show_himself_is_not_waited_for() {
    let (agent, _, elsewhere, _) = all().await;
    for start in [&b""[..], &TLS_1_2[..20]] {
        let mut stream = TcpStream::connect(elsewhere.at).await.unwrap();
        stream.write_all(start).await.unwrap();
        let begin = Instant::now();
        assert_eq!(stream.read_to_end(&mut Vec::new()).await.unwrap(), 0);
        assert_eq!(begin.elapsed().as_secs(), 3);
    }
    assert_eq!(elsewhere.count(Turned::TooSlow), 2);
    assert_eq!(agent.asked(), []);
}

#[tokio::test]
async fn a_flood_from_one_address_leaves_the_socket_alone_and_passes() {
    let (agent, _, elsewhere, operator) = all().await;
    let mut silent = Vec::new();
    for _ in 0..16 {
        silent.push(TcpStream::connect(elsewhere.at).await.unwrap());
    }
    for count in 1..=100 {
        let mut one_more = TcpStream::connect(elsewhere.at).await.unwrap();
        // It is closed, or reset, at once.
        let _ = one_more.read(&mut [0]).await;
        elsewhere.until(Turned::TooMany, count).await;
    }
    let response = agent.request("GET", "/v1/status", "").await;
    assert_eq!(response.status, 200);
    drop(silent);
    elsewhere.until(Turned::NoTls, 16).await;
    let response = elsewhere.exchange(&operator, STATUS.as_bytes()).await;
    assert_eq!(response.status, 200);
}

#[tokio::test]
async fn one_operator_who_asks_too_much_keeps_nobody_out() {
    let (asks, mut requests) = mpsc::channel::<Request>(64);
    let agent = FakeAgent::serve(asks, Arc::default());
    let authority = authority();
    let elsewhere = Elsewhere::of(&agent, &issue(&authority, "one", Role::Agent)).await;
    let (alice, bob) = (
        issue(&authority, "alice", Role::Operator),
        issue(&authority, "bob", Role::Operator),
    );
    let mut waiting = Vec::new();
    for _ in 0..8 {
        let mut stream = elsewhere.connect(&alice).await;
        stream.write_all(STATUS.as_bytes()).await.unwrap();
        let request = requests.recv().await.unwrap();
        waiting.push((stream, request));
    }
    let response = elsewhere.exchange(&alice, STATUS.as_bytes()).await;
    assert_eq!(response.status, 503, "{response:?}");
    assert!(response.refusal().message.contains("alice"));
    assert_eq!(elsewhere.count(Turned::TooMany), 1);

    let other = elsewhere.exchange(&bob, STATUS.as_bytes());
    let answering = async {
        let Request { ask, reply } = requests.recv().await.unwrap();
        assert_eq!(ask, Ask::Status);
        reply.send(Ok(Answer::Links(Vec::new()))).unwrap();
    };
    let (response, ()) = tokio::join!(other, answering);
    assert_eq!(response.status, 200);
    for (mut stream, Request { reply, .. }) in waiting {
        reply.send(Ok(Answer::Links(Vec::new()))).unwrap();
        assert_eq!(HttpResponse::read(&mut stream).await.status, 200);
    }
}

#[tokio::test]
async fn heads_and_bodies_are_bounded() {
    let (agent, _, elsewhere, operator) = all().await;
    let long = format!(
        "GET /v1/status HTTP/1.1\r\nx: {}\r\n\r\n",
        "a".repeat(200_000)
    );
    let response = elsewhere.exchange(&operator, long.as_bytes()).await;
    assert_eq!(response.status, 431, "{response:?}");
    let many = format!("GET /v1/status HTTP/1.1\r\n{}\r\n", "x: a\r\n".repeat(500));
    let response = elsewhere.exchange(&operator, many.as_bytes()).await;
    assert_eq!(response.status, 431, "{response:?}");
    let body = format!(r#"{{"frame": ""{}}}"#, " ".repeat(300_000));
    let response = elsewhere
        .request(&operator, "POST", "/v1/trace", &body)
        .await;
    assert_eq!(response.status, 413, "{response:?}");
    assert_eq!(agent.asked(), []);
}

#[tokio::test]
async fn streams_from_elsewhere_leave_room_for_those_of_the_host() {
    let (agent, authority, elsewhere, operator) = all().await;
    let reader = issue(&authority, "bob", Role::Reader);
    let mut streams = Vec::new();
    for number in 0..8 {
        let who = [&operator, &reader][number % 2];
        let mut stream = elsewhere.connect(who).await;
        stream.write_all(EVENTS.as_bytes()).await.unwrap();
        let mut head = [0; 64];
        let read = stream.read(&mut head).await.unwrap();
        assert!(head[..read].starts_with(b"HTTP/1.1 200"));
        streams.push(stream);
    }
    let response = elsewhere.exchange(&operator, EVENTS.as_bytes()).await;
    assert_eq!(response.status, 503, "{response:?}");
    agent.tell(Event::now(EventKind::Stopping, "agent", "it stops"));
    for mut stream in streams {
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.unwrap();
        assert!(String::from_utf8(rest).unwrap().contains("it stops"));
    }
    // Those who have gone leave their places.
    let asked = async {
        elsewhere
            .exchange(&operator, EVENTS.as_bytes())
            .await
            .status
    };
    let telling = async {
        loop {
            sleep(Duration::from_millis(5)).await;
            agent.tell(Event::now(EventKind::Stopping, "agent", "it stops"));
        }
    };
    tokio::select! {
        status = asked => assert_eq!(status, 200),
        () = telling => unreachable!(),
    }
}

#[tokio::test]
async fn place_and_identity_change_while_it_runs() {
    let (_agent, _, elsewhere, operator) = all().await;
    let mut stream = elsewhere.connect(&operator).await;
    stream.write_all(EVENTS.as_bytes()).await.unwrap();
    let mut head = [0; 64];
    assert!(stream.read(&mut head).await.unwrap() > 0);

    // Another identity, of another authority: who comes now sees that one.
    let other = authority();
    let host = issue(&other, "hub", Role::Proxy);
    let tls = HostTls::new(&host).unwrap();
    elsewhere.plan.send_modify(|plan| plan.tls = Some(tls));
    let successor = issue(&other, "alice", Role::Operator);
    let response = elsewhere.exchange(&successor, STATUS.as_bytes()).await;
    assert_eq!(response.status, 200);
    assert_eq!(elsewhere.door.heard_at(), Some(elsewhere.at));

    // A place that somebody else has is named, and taken once it is free.
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let place = taken.local_addr().unwrap();
    elsewhere
        .plan
        .send_modify(|plan| plan.address = Some(place));
    let why = loop {
        if let Some(why) = elsewhere.door.deaf() {
            break why;
        }
        sleep(Duration::from_millis(1)).await;
    };
    assert!(
        why.contains("in use") && why.contains(&place.to_string()),
        "{why}"
    );
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest).await;
    assert!(
        TcpStream::connect(elsewhere.at).await.is_err(),
        "the old place is closed"
    );
    drop(taken);
    assert_eq!(heard(&elsewhere.door).await, place);
    assert_eq!(elsewhere.door.deaf(), None);

    // And nowhere.
    elsewhere.plan.send_modify(|plan| plan.address = None);
    while elsewhere.door.heard_at().is_some() {
        sleep(Duration::from_millis(1)).await;
    }
    assert!(TcpStream::connect(place).await.is_err());
    let Elsewhere { plan, task, .. } = elsewhere;
    drop(plan);
    task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_stream_ends_with_the_certificate() {
    let (_agent, authority, elsewhere, _) = all().await;
    let short = Duration::from_secs(600);
    let operator = authority.issue("alice", Role::Operator, now_unix_s(), short);
    let begin = Instant::now();
    let response = elsewhere
        .exchange(&operator.unwrap(), EVENTS.as_bytes())
        .await;
    assert_eq!(response.status, 200);
    let lasted = begin.elapsed();
    assert!(
        lasted <= short && lasted + Duration::from_secs(60) > short,
        "{lasted:?}"
    );
}

#[tokio::test]
async fn who_is_revoked_is_not_heard_and_what_he_has_ends() {
    let (agent, authority, elsewhere, operator) = all().await;
    let bob = issue(&authority, "bob", Role::Operator);
    let mut streams = Vec::new();
    for who in [&operator, &bob] {
        let mut stream = elsewhere.connect(who).await;
        stream.write_all(EVENTS.as_bytes()).await.unwrap();
        assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
        streams.push(stream);
    }
    let mut list = Revoked::default();
    list.add("alice", now_unix_s()).unwrap();
    elsewhere.revoked.send_replace(Arc::new(list));
    let [mut alices, mut bobs] = <[_; 2]>::try_from(streams).unwrap();
    let _ = alices.read_to_end(&mut Vec::new()).await;
    elsewhere.until(Turned::Revoked, 1).await;
    let response = elsewhere.exchange(&operator, STATUS.as_bytes()).await;
    assert_eq!(response.status, 403, "{response:?}");
    let refusal = response.refusal().to_string();
    assert!(
        refusal.contains("alice") && refusal.contains("revoked"),
        "{refusal}"
    );
    assert_eq!(elsewhere.count(Turned::Revoked), 2);
    assert_eq!(agent.asked(), []);

    // One that is made later counts, and others are not disturbed.
    let later = now_unix_s() + 1;
    let again = authority
        .issue("alice", Role::Operator, later, HOUR)
        .unwrap();
    let response = elsewhere.exchange(&again, STATUS.as_bytes()).await;
    assert_eq!(response.status, 200);
    agent.tell(Event::now(EventKind::Stopping, "agent", "it stops"));
    let mut rest = Vec::new();
    bobs.read_to_end(&mut rest).await.unwrap();
    assert!(String::from_utf8(rest).unwrap().contains("it stops"));
}
