//! What does a host's trace say of a frame's way over all hosts?
//!
//! Input: its answer, which is bytes from outside where it is another host's. Output: what becomes of
//! the frame there, as [`overlay::walk`](crate::overlay::walk) wants it. Bounded in size.

use serde::de::DeserializeOwned;
use vnet_common::reason::Reason;

use super::{LiveRule, Refusal, TraceReport, Unasked, Verdict};
use crate::model::Target;
use crate::overlay::message::Reply;
use crate::overlay::walk::{Heard, Left, Went};

/// The longest answer: a trace of the longest frame is shorter.
const TRACE_BYTES_MAX: usize = 512 << 10;

/// What another host says.
///
/// # Errors
///
/// It does not tell, or it is no answer.
pub fn read(reply: &Reply) -> Result<Heard, Unasked> {
    if reply.body.len() > TRACE_BYTES_MAX {
        return Err(Unasked::Nonsense {
            message: format!("an answer of {} bytes", reply.body.len()),
        });
    }
    match reply.status {
        200 => parsed(&reply.body).map(of),
        _ => {
            let refusal: Refusal = parsed(&reply.body)?;
            Err(Unasked::Refused {
                message: refusal.message,
            })
        }
    }
}

fn parsed<T: DeserializeOwned>(body: &str) -> Result<T, Unasked> {
    serde_json::from_str(body).map_err(|error| Unasked::Nonsense {
        message: error.to_string(),
    })
}

/// A trace as the walk over hosts wants it.
pub fn of(report: TraceReport) -> Heard {
    let went = went(&report);
    Heard {
        rule: report.rule.map(|rule| LiveRule {
            network: rule.network,
            source: rule.source,
            destination: rule.destination,
            to: rule.to,
            strength: rule.strength,
            origin: rule.origin,
            note: rule.note,
        }),
        flow_cached: report.flow_cached,
        door: report.door,
        kernel: report.kernel.map(|run| run.action),
        agree: report.agree,
        went,
    }
}

fn went(report: &TraceReport) -> Vec<Went> {
    let dropped = |reason: Option<Reason>| {
        let text = reason.map_or("nowhere to go", Reason::text);
        let notes = [
            report.mtu_note.as_ref(),
            report.rule.as_ref().and_then(|rule| rule.note.as_ref()),
        ];
        let notes = notes.into_iter().flatten();
        let message = notes.fold(text.to_owned(), |text, note| format!("{text}; {note}"));
        vec![Went::Dropped(reason, message)]
    };
    let over = report.links.iter().map(|link| {
        Went::Over(Left {
            link: link.name.clone(),
            over: link.over.clone(),
            remote: link.remote,
            kind: link.rung.kind,
            why: link.rung.why.clone(),
            since_unix_ms: link.rung.since_unix_ms,
            guest_mtu_bytes: link.guest_mtu_bytes,
        })
    });
    let into = |target: &Target| match target {
        Target::Port(device) => Some(Went::Into(device.clone())),
        _ => None,
    };
    match report.verdict {
        Verdict::Forwarded if report.links.is_empty() => {
            vec![Went::Otherwise(
                "goes on, it does not say over what".to_owned(),
            )]
        }
        Verdict::Forwarded => over.collect(),
        Verdict::Delivered => report.target.iter().filter_map(into).collect(),
        Verdict::SlowPath => {
            let all: Vec<Went> = report.copies.iter().filter_map(into).chain(over).collect();
            match all.is_empty() {
                true => dropped(Some(Reason::NoReceiver)),
                false => all,
            }
        }
        Verdict::Dropped => dropped(report.reason),
        other => vec![Went::Otherwise(other.to_string())],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(status: u16, body: &str) -> Result<Heard, Unasked> {
        read(&Reply {
            number: 1,
            status,
            body: body.to_owned(),
        })
    }

    const REPORT: &str = r#"{"from": "port tap0", "network": "blue", "steps": [], "verdict": "VERDICT",
        "reason": REASON, "target": {"port": "tap1"}, "copies": [{"port": "tap1"}, {"port": "tap2"}],
        "rule": null, "flow_cached": false, "kernel": null, "host": {"verdict": "dropped",
        "output_hex": ""}, "agree": null, "outer": null, "mtu_note": "use less"}"#;

    fn went(verdict: &str, reason: &str) -> Vec<Went> {
        let text = REPORT.replace("VERDICT", verdict).replace("REASON", reason);
        said(200, &text).unwrap().went
    }

    #[test]
    fn what_is_no_answer_is_told_from_a_refusal() {
        let refusal = r#"{"kind": "not_found", "message": "there is no link x", "cure": null}"#;
        let message = "there is no link x".to_owned();
        assert_eq!(said(404, refusal), Err(Unasked::Refused { message }));
        let long = " ".repeat(TRACE_BYTES_MAX + 1);
        let lie = REPORT
            .replace("VERDICT", "famous")
            .replace("REASON", "null");
        for (status, body) in [
            (200, ""),
            (200, "[]"),
            (200, refusal),
            (200, &lie),
            (404, "no"),
            (200, &long),
        ] {
            let said = said(status, body);
            assert!(matches!(said, Err(Unasked::Nonsense { .. })), "{said:?}");
        }
    }

    #[test]
    fn a_trace_says_where_a_frame_goes() {
        let into = |device: &str| Went::Into(device.to_owned());
        assert_eq!(went("delivered", "null"), [into("tap1")]);
        assert_eq!(went("slow_path", "null"), [into("tap1"), into("tap2")]);
        let too_big = went("dropped", "\"too-big\"");
        let [Went::Dropped(Some(Reason::TooBig), message)] = too_big.as_slice() else {
            panic!("{too_big:?}")
        };
        assert!(message.ends_with("; use less"), "{message}");
        let silent = went("forwarded", "null");
        assert!(
            matches!(silent.as_slice(), [Went::Otherwise(_)]),
            "{silent:?}"
        );
    }
}
