//! The HTTP API: bytes of a whole connection, to a server whose agent refuses everything.

use std::cell::Cell;
use std::io;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use vnet_agent::api::pass::PassOn;
use vnet_agent::api::stream::Teller;
use vnet_agent::api::{ASKS_WAITING_MAX, Refusal, Request, http};

use super::words_of;
use crate::engine::{Depth, Floor, Limits, Reached, Target};

/// A server, and who asks it.
pub(super) struct Api {
    runtime: Runtime,
    directory: TempDir,
    asked: Rc<Cell<u64>>,
    tasks: tokio::task::LocalSet,
}

const SOCKET: &str = "api.sock";
/// For a whole conversation: only a stream of events lasts longer.
const PATIENCE: Duration = Duration::from_millis(500);

impl Api {
    pub(super) fn new() -> Self {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().build().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let asked = Rc::new(Cell::new(0));
        let tasks = tokio::task::LocalSet::new();
        let listener = {
            let _guard = runtime.enter();
            UnixListener::bind(directory.path().join(SOCKET)).unwrap()
        };
        let (asks, mut requests) = mpsc::channel::<Request>(ASKS_WAITING_MAX);
        runtime.spawn(http::serve(
            listener,
            asks,
            Teller::default(),
            PassOn::default(),
            std::future::pending(),
        ));
        let count = Rc::clone(&asked);
        tasks.spawn_local(async move {
            while let Some(Request { reply, .. }) = requests.recv().await {
                count.set(count.get() + 1);
                let _ = reply.send(Err(Refusal::not_found("there is nothing here")));
            }
        });
        Self {
            runtime,
            directory,
            asked,
            tasks,
        }
    }
}

async fn exchange(socket: &Path, input: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = UnixStream::connect(socket).await?;
    let mut answer = Vec::new();
    let talk = async {
        // A server that has heard enough closes before it has heard all.
        let _ = stream.write_all(input).await;
        let _ = stream.shutdown().await;
        let _ = stream.read_to_end(&mut answer).await;
    };
    let _ = tokio::time::timeout(PATIENCE, talk).await;
    Ok(answer)
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
        Floor {
            inside_percent: 18,
            whole_percent: 4,
            trails: 75,
        }
    }

    fn try_one(&mut self, input: &[u8]) -> Result<Reached, String> {
        let input = mended(input);
        let before = self.asked.get();
        let socket = self.directory.path().join(SOCKET);
        let exchanged = exchange(&socket, &input);
        let answer = self.tasks.block_on(&self.runtime, exchanged);
        let answer = answer.map_err(|error| format!("the server is gone: {error}"))?;
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
