//! What is happening on this host?

use std::process::ExitCode;

use anyhow::bail;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use vnet_agent::api::stream::{Event, EventKind};

use crate::client::Client;
use crate::screen::{self, Format, Screen};

/// Shows events until the agent stops or we are interrupted.
pub async fn run(client: &Client, screen: &Screen) -> anyhow::Result<ExitCode> {
    let mut stopped = false;
    let mut trouble = None;
    let each = |line: &str| match shown(line, screen.format) {
        Ok(None) => true,
        Ok(Some((text, kind))) => {
            stopped |= kind == EventKind::Stopping;
            screen::write(format!("{text}\n").as_bytes()).is_ok()
        }
        Err(error) => {
            trouble = Some(error);
            false
        }
    };
    client.lines("/v1/events", each).await?;
    if let Some(error) = trouble {
        bail!("not an event of this version's agent: {error}");
    }
    if !stopped {
        bail!("the agent ended the stream");
    }
    Ok(ExitCode::SUCCESS)
}

/// A line of the stream as it is shown; nothing for those that hold no event.
fn shown(line: &str, format: Format) -> Result<Option<(String, EventKind)>, serde_json::Error> {
    let Some(data) = line.strip_prefix("data:") else {
        return Ok(None);
    };
    let event: Event = serde_json::from_str(data.trim_start())?;
    let text = match format {
        Format::Json => data.trim_start().to_owned(),
        Format::Table => render(&event),
    };
    Ok(Some((text, event.kind)))
}

fn render(event: &Event) -> String {
    let Event {
        at_unix_ms,
        kind,
        subject,
        message,
        cure,
    } = event;
    let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(*at_unix_ms) * 1_000_000);
    let at = at.ok().and_then(|at| at.format(&Rfc3339).ok());
    let at = at.unwrap_or_else(|| format!("{at_unix_ms} ms"));
    let cure = cure.as_deref().map(|cure| format!(". {cure}"));
    format!(
        "{at}  {:8}  {subject}: {message}{}",
        kind.word(),
        cure.unwrap_or_default()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_a_line_and_everything_else_of_the_stream_is_none() {
        let line = r#"data: {"at_unix_ms": 1000123, "kind": "problem", "subject": "link to-two",
            "message": "no route", "cure": "ip route"}"#;
        let (text, kind) = shown(line, Format::Table).unwrap().unwrap();
        assert_eq!(kind, EventKind::Problem);
        assert_eq!(
            text,
            "1970-01-01T00:16:40.123Z  problem   link to-two: no route. ip route"
        );
        let (json, _) = shown(line, Format::Json).unwrap().unwrap();
        assert_eq!(json, line.strip_prefix("data: ").unwrap());
        for line in ["", ": alive", "event: problem", "id: 5"] {
            assert_eq!(shown(line, Format::Table).unwrap(), None);
        }
        assert!(shown("data: nonsense", Format::Table).is_err());
    }
}
