//! The HTTP API: bytes of a whole connection, to a server whose agent refuses everything; by its socket,
//! and over TLS by somebody who may read and no more.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};
use vnet_agent::api::pass::PassOn;
use vnet_agent::api::remote::tls::{HostTls, OperatorTls};
use vnet_agent::api::remote::{Door, Plan, run};
use vnet_agent::api::route::router;
use vnet_agent::api::stream::Teller;
use vnet_agent::api::{ASKS_WAITING_MAX, Ask, Refusal, Request, http};
use vnet_agent::identity::{Authority, Role};

use super::words_of;
use crate::engine::{Depth, Floor, Limits, Reached, Target};

/// How a server is asked.
enum Way {
    Socket(
        PathBuf,
        #[expect(dead_code, reason = "it goes with the server")] TempDir,
    ),
    Reader {
        door: Arc<Door>,
        tls: OperatorTls,
        #[expect(dead_code, reason = "the server ends when nobody can change its plan")]
        plan: watch::Sender<Plan>,
    },
}

/// A server, and who asks it.
pub(super) struct Api {
    runtime: Runtime,
    way: Way,
    asked: Rc<Cell<u64>>,
    /// What a reader may not, and was not kept from.
    slipped: Rc<RefCell<Option<Ask>>>,
    tasks: tokio::task::LocalSet,
}

const SOCKET: &str = "api.sock";
/// For a whole conversation: only a stream of events lasts longer.
const PATIENCE: Duration = Duration::from_millis(500);

/// What a reader may ask.
fn is_reading(ask: &Ask) -> bool {
    match ask {
        Ask::ApplyTopology(wanted) => wanted.dry_run,
        Ask::UndoTopology(wanted) => wanted.dry_run,
        Ask::AddLink(_)
        | Ask::DeleteLink { .. }
        | Ask::AddRule(_)
        | Ask::DeleteRule { .. }
        | Ask::ChangeRules { .. }
        | Ask::Trace(_)
        | Ask::ForgetAgent { .. }
        | Ask::Invite(_) => false,
        _ => true,
    }
}

impl Api {
    /// By its socket.
    pub(super) fn new() -> Self {
        Self::asked_by(|asks| {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join(SOCKET);
            let listener = UnixListener::bind(&path).unwrap();
            tokio::spawn(http::serve(
                listener,
                asks,
                Teller::default(),
                PassOn::default(),
                std::future::pending(),
            ));
            Way::Socket(path, directory)
        })
    }

    /// Over TLS, by a reader.
    pub(super) fn of_a_reader() -> Self {
        Self::asked_by(|asks| {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
            let (now, life) = (now.as_secs(), Duration::from_secs(1 << 20));
            let authority = Authority::create("test", now, life).unwrap();
            let issue = |name: &str, role| authority.issue(name, role, now, life).unwrap();
            let (plan, planned) = watch::channel(Plan {
                address: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
                tls: Some(HostTls::new(&issue("one", Role::Agent)).unwrap()),
            });
            let router = router(asks, Teller::default(), PassOn::default());
            let (_, nobody) = watch::channel(Arc::default());
            let door = Arc::new(Door::new(router, nobody));
            let listening = Arc::clone(&door);
            tokio::spawn(run(planned, listening));
            Way::Reader {
                tls: OperatorTls::new(&issue("bob", Role::Reader)).unwrap(),
                door,
                plan,
            }
        })
    }

    fn asked_by(serve: impl FnOnce(mpsc::Sender<Request>) -> Way) -> Self {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().build().unwrap();
        let asked = Rc::new(Cell::new(0));
        let slipped = Rc::new(RefCell::new(None));
        let tasks = tokio::task::LocalSet::new();
        let (asks, mut requests) = mpsc::channel::<Request>(ASKS_WAITING_MAX);
        let way = {
            let _guard = runtime.enter();
            serve(asks)
        };
        let (count, seen) = (Rc::clone(&asked), Rc::clone(&slipped));
        tasks.spawn_local(async move {
            while let Some(Request { ask, reply }) = requests.recv().await {
                count.set(count.get() + 1);
                if !is_reading(&ask) {
                    *seen.borrow_mut() = Some(ask);
                }
                let _ = reply.send(Err(Refusal::not_found("there is nothing here")));
            }
        });
        Self {
            runtime,
            way,
            asked,
            slipped,
            tasks,
        }
    }
}

impl Way {
    async fn exchange(&self, input: &[u8]) -> io::Result<Vec<u8>> {
        match self {
            Self::Socket(path, _) => Ok(talk(UnixStream::connect(path).await?, input).await),
            Self::Reader { door, tls, .. } => {
                let at = loop {
                    if let Some(at) = door.heard_at() {
                        break at;
                    }
                    tokio::task::yield_now().await;
                };
                let (stream, _) = tls.greet(TcpStream::connect(at).await?).await?;
                Ok(talk(stream, input).await)
            }
        }
    }
}

async fn talk(mut stream: impl AsyncRead + AsyncWrite + Unpin, input: &[u8]) -> Vec<u8> {
    let mut answer = Vec::new();
    let talk = async {
        // A server that has heard enough closes before it has heard all.
        let _ = stream.write_all(input).await;
        let _ = stream.shutdown().await;
        let _ = stream.read_to_end(&mut answer).await;
    };
    let _ = tokio::time::timeout(PATIENCE, talk).await;
    answer
}

fn request(method: &str, path: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    let head = format!("{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n");
    [head.as_bytes(), body.as_bytes()].concat()
}

/// The request with a length that its body has: what is mutated loses it.
fn mended(input: &[u8]) -> Vec<u8> {
    const LENGTH: &[u8] = b"content-length: ";
    let find = |what: &[u8]| input.windows(what.len()).position(|window| window == what);
    let (Some(end), Some(at)) = (find(b"\r\n\r\n"), find(LENGTH)) else {
        return input.to_vec();
    };
    let Some(head) = input.get(..at).filter(|_| at < end) else {
        return input.to_vec();
    };
    let body = &input[end + 4..];
    let rest = &input[at..end];
    let line_end = rest.windows(2).position(|pair| pair == b"\r\n");
    let rest = &rest[line_end.unwrap_or(rest.len())..];
    let length = body.len().to_string();
    [head, LENGTH, length.as_bytes(), rest, b"\r\n\r\n", body].concat()
}

impl Target for Api {
    fn seeds(&self) -> Vec<Vec<u8>> {
        let get = |path| request("GET", path, "");
        let post = |path, body| request("POST", path, body);
        let rule =
            r#"{"network": "blue", "destination": "52:54:00:00:00:02", "to": {"link": "a"}}"#;
        let link = r#"{"name": "a", "remote": "10.0.0.2", "networks": ["blue"],
 "cookie": "0123456789abcdef", "flood": "always", "kind": "tls", "fallback": "b"}"#;
        let trace = r#"{"port": "tap0", "source": "52:54:00:00:00:01",
 "destination": "52:54:00:00:00:02", "frame": "ffffffffffff52540000000108060001"}"#;
        vec![
            get("/v1/status"),
            get("/v1/rules?network=blue"),
            get("/v1/flows?network=blue&limit=10&sort=bytes"),
            get("/v1/drops?all=true"),
            get("/metrics"),
            get("/v1/openapi.json"),
            get("/v1/events"),
            post("/v1/rules", rule),
            post("/v1/links", link),
            post("/v1/trace", trace),
            post("/v1/trace", r#"{"frame": "ffffffffffff525400000001"}"#),
            post("/v1/invites", r#"{"host": "two", "expires_s": 3600}"#),
            post(
                "/v1/topology",
                r#"{"topology": {"networks": [{"name": "blue", "id": 7}],
 "hosts": [], "vms": [], "links": [], "rules": []}, "force": false}"#,
            ),
            post("/v1/topology/undo", "{}"),
            post("/v1/topology/undo", r#"{"dry_run": true}"#),
            request("DELETE", "/v1/links/to-two?force=true", ""),
            request(
                "DELETE",
                "/v1/rules?network=blue&source=any&destination=not+52:54:00:00:00:01",
                "",
            ),
            request("DELETE", "/v1/agents/two", ""),
        ]
    }

    fn words(&self) -> Vec<Vec<u8>> {
        words_of(&[
            "GET",
            "POST",
            "DELETE",
            "PUT",
            "HEAD",
            "OPTIONS",
            "/v1/links",
            "/v1/rules",
            "null",
            "true",
            "[]",
            "{}",
            "%00",
            "%2f",
            "%ff",
            "..",
            "?",
            "&",
            "=",
            "any",
            "none",
            "HTTP/1.0",
            "transfer-encoding: chunked\r\n",
            "expect: 100-continue\r\n",
            "content-length: 5\r\n",
            "connection: upgrade\r\n",
        ])
    }

    fn is_text(&self) -> bool {
        true
    }

    fn inputs(&self) -> u64 {
        1200
    }

    fn limits(&self) -> Limits {
        Limits {
            held_bytes: (2_000_000, 400),
            asked_bytes: (20_000_000, 4000),
        }
    }

    fn floor(&self) -> Floor {
        // Readers are refused most of what is told apart further in.
        match self.way {
            Way::Socket(..) => Floor {
                inside_percent: 18,
                whole_percent: 4,
                trails: 75,
            },
            Way::Reader { .. } => Floor {
                inside_percent: 10,
                whole_percent: 1,
                trails: 18,
            },
        }
    }

    fn try_one(&mut self, input: &[u8]) -> Result<Reached, String> {
        let input = mended(input);
        let before = self.asked.get();
        let exchanged = self.way.exchange(&input);
        let answer = self.tasks.block_on(&self.runtime, exchanged);
        let answer = answer.map_err(|error| format!("the server is gone: {error}"))?;
        let slipped = self.slipped.borrow_mut().take();
        if let (Way::Reader { .. }, Some(ask)) = (&self.way, slipped) {
            return Err(format!("a reader has had this done: {ask:?}"));
        }
        let was_asked = self.asked.get() > before;
        let text = String::from_utf8_lossy(&answer);
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            // Not even HTTP: then the connection ends.
            return match answer.is_empty() {
                true => Ok(Reached::new(Depth::Refused, "")),
                false => Err(format!("half an answer: {text:?}")),
            };
        };
        let status: u16 = head
            .split(' ')
            .nth(1)
            .and_then(|word| word.parse().ok())
            .unwrap_or(0);
        if !(100..600).contains(&status) || status == 500 {
            return Err(format!("status {status}: {text}"));
        }
        let is_of_ours = head.contains("application/json");
        let said: serde_json::Value = match is_of_ours && !input.starts_with(b"HEAD") {
            true => serde_json::from_str(body).map_err(|error| format!("{error}: {text:?}"))?,
            false => serde_json::Value::Null,
        };
        let message = said.get("message").and_then(serde_json::Value::as_str);
        if is_of_ours && status >= 400 && message.is_none_or(str::is_empty) && !body.is_empty() {
            return Err(format!("refused without words: {text:?}"));
        }
        let depth = match (was_asked, status) {
            (true, _) | (false, 200) => Depth::Whole,
            (false, 404 | 405) | (_, 0) => Depth::Refused,
            (false, _) if !is_of_ours => Depth::Refused,
            _ => Depth::Inside,
        };
        // Letters tell ways apart, and digits do not.
        let word = format!("{status}").replace(['4', '5'], "x");
        let path = input.split(|&byte| byte == b' ' || byte == b'?').nth(1);
        let path = String::from_utf8_lossy(path.unwrap_or_default()).into_owned();
        let way = match depth {
            Depth::Whole => path,
            _ => message.unwrap_or_default().replace(&path, ""),
        };
        Ok(Reached::new(depth, &format!("{word} {way}")))
    }
}
