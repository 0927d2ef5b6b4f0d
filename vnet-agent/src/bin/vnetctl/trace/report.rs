//! How does the path of a frame read?
//!
//! Input: the frame and the agent's report. Output: a line a finding, or a row of a table.

use vnet_agent::api::{Refusal, TraceReport, Verdict};

use crate::frame;
use crate::number::{counted, exact};
use crate::rule::origin;
use crate::table::{Side, Table, or_empty};
use crate::text::paragraph;

/// A frame to be traced.
pub struct Subject {
    /// The frame, from its Ethernet header on.
    pub bytes: Vec<u8>,
    /// How many of its bytes a capture kept, where that is not all; the others are zeros here.
    pub captured: Option<usize>,
}

/// A frame in a line.
fn headline(subject: &Subject) -> String {
    let bytes = &subject.bytes;
    let unknown = || "?".to_owned();
    let mut text = format!(
        "{} -> {}, {}, {}",
        frame::source(bytes).map_or_else(unknown, |mac| mac.to_string()),
        frame::destination(bytes).map_or_else(unknown, |mac| mac.to_string()),
        frame::content(bytes).unwrap_or_else(unknown),
        counted(bytes.len() as u64, "byte")
    );
    if let Some(captured) = subject.captured {
        text.push_str(&format!(
            " ({} captured, the rest taken for zeros)",
            exact(captured as u64)
        ));
    }
    text
}

/// How it ends, in words.
fn ending(report: &TraceReport) -> String {
    let mut text = report.verdict.to_string();
    match (report.verdict, report.reason, &report.target) {
        (Verdict::Dropped, Some(reason), _) => {
            text.push_str(&format!(": {reason}, {}", reason.text()));
        }
        (Verdict::Forwarded | Verdict::Delivered, _, Some(target)) => {
            text.push_str(&format!(": {target}"));
        }
        _ => {}
    }
    if !report.copies.is_empty() {
        let copies: Vec<String> = report.copies.iter().map(ToString::to_string).collect();
        text.push_str(&format!(", copied to {}", copies.join(", ")));
    }
    text
}

/// The whole path of one frame.
pub fn render(subject: &Subject, report: &TraceReport, columns: Option<usize>) -> String {
    let mut text = String::new();
    let mut line = |label: &str, value: &str| {
        text.push_str(&paragraph(&format!("{label:<9} "), value, columns));
    };
    line("frame", &headline(subject));
    let network = report
        .network
        .as_ref()
        .map(|name| format!(", network {name}"));
    line(
        "from",
        &format!("{}{}", report.from, network.unwrap_or_default()),
    );
    for step in &report.steps {
        line(&format!("  {}", step.step), &step.outcome);
    }
    line("verdict", &ending(report));
    if let Some(rule) = &report.rule {
        let mut words = format!(
            "{} -> {} = {} (strength {}, origin {})",
            rule.source,
            rule.destination,
            rule.to,
            rule.strength,
            origin(rule.origin)
        );
        if let Some(note) = &rule.note {
            words.push_str(&format!("; {note}"));
        }
        line("rule", &words);
    }
    match (report.flow_cached, &report.rule) {
        (true, _) => line(
            "flow",
            "the flow table knows the flow; the rules were not asked",
        ),
        (false, Some(_)) => line("flow", "new to the flow table; the rules were asked"),
        (false, None) => {}
    }
    if let Some(outer) = &report.outer {
        line("outer", outer);
    }
    if let Some(note) = &report.mtu_note {
        line("size", note);
    }
    line("kernel", &kernel(report));
    if report.agree == Some(false) {
        line("host", &format!("DIFFERS: {}", difference(report)));
    }
    text
}

fn kernel(report: &TraceReport) -> String {
    match &report.kernel {
        None => "the loaded program was not run; this is what the host's run says".into(),
        Some(kernel) => format!(
            "{}, {}{}",
            kernel.action,
            counted(kernel.output_bytes, "byte"),
            if report.agree == Some(true) {
                "; the host's run agrees"
            } else {
                ""
            }
        ),
    }
}

/// Where the two runs part.
fn difference(report: &TraceReport) -> String {
    let host = &report.host.output_hex.0;
    let mut text = format!(
        "{}, {}",
        report.host.verdict,
        counted(host.len() as u64, "byte")
    );
    let kernel = report
        .kernel
        .as_ref()
        .map_or(&[][..], |run| &run.output_hex.0);
    if let Some(at) = host
        .iter()
        .zip(kernel)
        .position(|(host, kernel)| host != kernel)
    {
        text.push_str(&format!(", first different byte at {at}"));
    }
    text
}

/// The table for a row a frame.
pub fn summary() -> Table<7> {
    Table::new([
        ("FRAME", Side::Right),
        ("FROM", Side::Left),
        ("SOURCE", Side::Left),
        ("DESTINATION", Side::Left),
        ("CONTENT", Side::Left),
        ("BYTES", Side::Right),
        ("VERDICT", Side::Left),
    ])
}

/// The row of one frame, traced or refused.
pub fn summarise(
    table: &mut Table<7>,
    number: usize,
    subject: &Subject,
    result: Result<&TraceReport, &Refusal>,
) {
    let bytes = &subject.bytes;
    let verdict = match result {
        Ok(TraceReport {
            verdict: Verdict::Dropped,
            reason: Some(reason),
            ..
        }) => {
            format!("dropped: {reason}")
        }
        Ok(report) => ending(report),
        Err(refusal) => format!("not traced: {refusal}"),
    };
    table.row([
        number.to_string(),
        result.map_or_else(|_| String::new(), |report| report.from.to_string()),
        or_empty(frame::source(bytes)),
        or_empty(frame::destination(bytes)),
        frame::content(bytes).unwrap_or_default(),
        exact(bytes.len() as u64),
        verdict,
    ]);
}

#[cfg(test)]
mod tests {
    use vnet_agent::api::{FrameBytes, HostRun, KernelRun, Place, RuleStatus, TraceStep};
    use vnet_agent::model::door::Door;
    use vnet_agent::model::{RuleOrigin, Target};
    use vnet_common::addr::Mac;
    use vnet_common::reason::Reason;
    use vnet_common::rule::{Destination, Source};

    use super::*;

    const GUEST_ONE: Mac = Mac([0x52, 0x54, 0, 0, 0, 1]);
    const GUEST_TWO: Mac = Mac([0x52, 0x54, 0, 0, 0, 2]);

    fn subject() -> Subject {
        Subject {
            bytes: frame::made_up(GUEST_ONE, GUEST_TWO, 0x0800, 60),
            captured: None,
        }
    }

    fn report() -> TraceReport {
        TraceReport {
            from: Place::Port("tap0".into()),
            network: Some("blue".into()),
            steps: vec![
                TraceStep {
                    step: "parse".into(),
                    outcome: "a frame for one station".into(),
                },
                TraceStep {
                    step: "resolve".into(),
                    outcome: "link to-two".into(),
                },
            ],
            verdict: Verdict::Forwarded,
            reason: None,
            target: Some(Target::Link("to-two".into())),
            copies: vec![],
            links: vec![],
            door: Some(Door::Xdp),
            rule: Some(RuleStatus {
                network: "blue".into(),
                source: Source::Any,
                destination: Destination::Is(GUEST_TWO),
                to: Target::Link("to-two".into()),
                origin: RuleOrigin::File,
                strength: 9,
                resolved: true,
                note: None,
            }),
            flow_cached: false,
            kernel: Some(KernelRun {
                action: "XDP_REDIRECT".into(),
                output_bytes: 130,
                output_hex: FrameBytes(vec![1, 2, 3]),
            }),
            host: HostRun {
                verdict: Verdict::Forwarded,
                output_hex: FrameBytes(vec![1, 2, 3]),
            },
            agree: Some(true),
            outer: Some("10.0.0.1 -> 10.0.0.2, UDP 49152 -> 6081, Geneve, VNI 7".into()),
            mtu_note: None,
        }
    }

    #[test]
    fn the_path_of_a_frame_reads_from_top_to_bottom() {
        let expected = "\
frame     52:54:00:00:00:01 -> 52:54:00:00:00:02, IPv4, 60 bytes
from      port tap0, network blue
  parse   a frame for one station
  resolve link to-two
verdict   forwarded: link to-two
rule      any -> 52:54:00:00:00:02 = link to-two (strength 9, origin file)
flow      new to the flow table; the rules were asked
outer     10.0.0.1 -> 10.0.0.2, UDP 49152 -> 6081, Geneve, VNI 7
kernel    XDP_REDIRECT, 130 bytes; the host's run agrees
";
        assert_eq!(render(&subject(), &report(), Some(80)), expected);
    }

    #[test]
    fn a_drop_says_why_and_a_disagreement_where() {
        let mut report = report();
        report.verdict = Verdict::Dropped;
        report.reason = Some(Reason::NoRule);
        report.rule = None;
        report.agree = Some(false);
        report.host.output_hex = FrameBytes(vec![1, 9, 3, 4]);
        let text = render(&subject(), &report, None);
        assert!(
            text.contains("verdict   dropped: no-rule, no rule matches; add one"),
            "{text}"
        );
        assert!(
            text.contains("DIFFERS: forwarded, 4 bytes, first different byte at 1"),
            "{text}"
        );
    }

    #[test]
    fn several_frames_have_a_line_each() {
        let mut table = summary();
        summarise(&mut table, 1, &subject(), Ok(&report()));
        let mut flood = report();
        flood.verdict = Verdict::SlowPath;
        flood.copies = vec![Target::Port("tap1".into()), Target::Link("to-two".into())];
        summarise(&mut table, 2, &subject(), Ok(&flood));
        let mut runt = report();
        runt.verdict = Verdict::Dropped;
        runt.reason = Some(Reason::Runt);
        summarise(
            &mut table,
            3,
            &Subject {
                bytes: vec![0; 7],
                captured: None,
            },
            Ok(&runt),
        );
        let refusal = Refusal::invalid("no port has this source");
        summarise(&mut table, 4, &subject(), Err(&refusal));
        let expected = "\
FRAME  FROM       SOURCE             DESTINATION        CONTENT  BYTES  VERDICT
    1  port tap0  52:54:00:00:00:01  52:54:00:00:00:02  IPv4        60  forwarded: link to-two
    2  port tap0  52:54:00:00:00:01  52:54:00:00:00:02  IPv4        60  slow path, copied to port tap1, link to-two
    3  port tap0                     00:00:00:00:00:00               7  dropped: runt
    4             52:54:00:00:00:01  52:54:00:00:00:02  IPv4        60  not traced: no port has this source
";
        assert_eq!(table.render(None), expected);
    }
}
