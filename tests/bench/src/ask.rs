//! What does an agent say? Asked over its socket without a program of its own in between, which would
//! take more time than the answer.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::de::DeserializeOwned;

/// The answer to one question.
///
/// # Errors
///
/// The agent does not answer, or refuses.
pub fn ask<T: DeserializeOwned>(socket: &Path, path: &str) -> Result<T> {
    let mut stream = UnixStream::connect(socket)?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let body = body(&answer).with_context(|| format!("asking for {path}"))?;
    Ok(serde_json::from_slice(body)?)
}

fn body(answer: &[u8]) -> Result<&[u8]> {
    const END: &[u8] = b"\r\n\r\n";
    let end = answer.windows(END.len()).position(|bytes| bytes == END);
    let (head, body) = answer
        .split_at_checked(end.context("no whole answer")? + END.len())
        .context("no body")?;
    let head = String::from_utf8_lossy(head);
    ensure!(
        head.starts_with("HTTP/1.1 200 "),
        "{head}{}",
        String::from_utf8_lossy(body)
    );
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_follows_the_empty_line_of_a_good_answer() {
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
        assert_eq!(body(answer).unwrap(), b"{}");
        let refused = body(b"HTTP/1.1 409 Conflict\r\n\r\n{\"message\":\"no\"}").unwrap_err();
        assert!(refused.to_string().contains("no"), "{refused}");
        assert!(body(b"HTTP/1.1 200 OK\r\n").is_err());
    }
}
