//! What does Prometheus read?
//!
//! Input: the answers to `status`, `stats` and `links`. Output: the same numbers as text in the
//! OpenMetrics format (version 1.0), for `GET /metrics`. Nothing is measured here, and no flow is
//! named: the number of time series is bounded by what the settings configure.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

use super::{LedgerValues, LinkState, LinkStatus, Severity, Stats, Status};

/// The media type of what [`text`] makes.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What one scrape sees.
#[derive(Debug)]
pub struct Scrape {
    /// How the agent is.
    pub status: Status,
    /// All books.
    pub stats: Stats,
    /// All links.
    pub links: Vec<LinkStatus>,
}

/// The scrape as text.
///
/// # Errors
/// A number could not be written, which a `String` does not do.
pub fn text(scrape: Scrape) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("vnet");
    registry.register_collector(Box::new(scrape));
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut families = Families(encoder);
        self.agent(&mut families)?;
        self.remote(&mut families)?;
        self.tables(&mut families)?;
        self.links(&mut families)?;
        self.books(&mut families)?;
        self.slow_path(&mut families)
    }
}

/// One label of one series: its name and its value.
type Label<'a> = (&'static str, &'a str);

/// Where families of series are written.
struct Families<'a>(DescriptorEncoder<'a>);

impl Families<'_> {
    fn counters<'l, const LABELS: usize>(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = ([Label<'l>; LABELS], u64)>,
    ) -> Result<(), fmt::Error> {
        let counters = series
            .into_iter()
            .map(|(labels, value)| (labels, ConstCounter::new(value)));
        self.family(name, help, None, counters)
    }

    fn gauges<'l, const LABELS: usize>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        series: impl IntoIterator<Item = ([Label<'l>; LABELS], u64)>,
    ) -> Result<(), fmt::Error> {
        let gauges = series.into_iter().map(|(labels, value)| {
            (
                labels,
                ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX)),
            )
        });
        self.family(name, help, unit, gauges)
    }

    /// A family without series is left out.
    fn family<'l, const LABELS: usize, M: EncodeMetric>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        series: impl Iterator<Item = ([Label<'l>; LABELS], M)>,
    ) -> Result<(), fmt::Error> {
        let mut series = series.peekable();
        let Some((_, first)) = series.peek() else {
            return Ok(());
        };
        let mut family = self
            .0
            .encode_descriptor(name, help, unit, first.metric_type())?;
        for (labels, metric) in series {
            one_of(&mut family, &labels, &metric)?;
        }
        Ok(())
    }
}

fn one_of<const LABELS: usize>(
    family: &mut MetricEncoder<'_>,
    labels: &[Label<'_>; LABELS],
    metric: &impl EncodeMetric,
) -> Result<(), fmt::Error>
where
    for<'l> [Label<'l>; LABELS]: EncodeLabelSet,
{
    metric.encode(family.encode_family(labels)?)
}

impl Scrape {
    fn remote(&self, families: &mut Families<'_>) -> Result<(), fmt::Error> {
        let Some(remote) = &self.status.remote else {
            return Ok(());
        };
        let help = "Whether the API is served over TLS";
        let is_heard = u64::from(remote.deaf.is_none());
        families.gauges("api_listening", help, None, [([], is_heard)])?;
        let help = "Connections of operators and readers";
        let connections = u64::from(remote.connections);
        families.gauges("api_connections", help, None, [([], connections)])?;
        let help = "Connections and requests over TLS that were turned away, by reason";
        let turned = remote.turned_away.iter();
        let turned = turned.map(|(why, &count)| ([("reason", why.as_str())], count));
        families.counters("api_turned_away", help, turned)
    }

    fn agent(&self, families: &mut Families<'_>) -> Result<(), fmt::Error> {
        let status = &self.status;
        let schema = status.schema.to_string();
        let labels = [
            ("name", status.name.as_str()),
            ("version", status.version.as_str()),
            ("kernel", status.kernel.as_str()),
            ("schema", schema.as_str()),
        ];
        let help = "Which agent this is; always 1";
        families.gauges("agent_build", help, None, [(labels, 1)])?;
        let help = "How long the agent has been running";
        families.gauges(
            "agent_uptime",
            help,
            Some(&Unit::Seconds),
            [([], status.uptime_s)],
        )?;
        let help = "The agent's resident memory, without the kernel's tables";
        let memory = status.memory_rss_bytes.map(|bytes| ([], bytes));
        families.gauges("agent_memory_rss", help, Some(&Unit::Bytes), memory)?;
        let help = "1: everything that is configured works";
        families.gauges("healthy", help, None, [([], u64::from(status.healthy))])?;
        let count = |severity| {
            let problems = status.problems.iter();
            problems
                .filter(|problem| problem.severity == severity)
                .count() as u64
        };
        let problems = [
            ([("severity", "degraded")], count(Severity::Degraded)),
            ([("severity", "warning")], count(Severity::Warning)),
        ];
        families.gauges("problems", "What `vnetctl status` names", None, problems)
    }

    fn tables(&self, families: &mut Families<'_>) -> Result<(), fmt::Error> {
        let status = &self.status;
        let tables = || status.tables.iter();
        let flows = &status.flows;
        let entries = tables().map(|table| (table.name.as_str(), table.entries));
        let entries = entries.chain([("flows", flows.entries)]);
        let capacity = tables().map(|table| (table.name.as_str(), table.capacity));
        let capacity = capacity.chain([("flows", flows.capacity)]);
        let labelled = |(name, value)| ([("table", name)], value);
        families.gauges(
            "table_entries",
            "Entries in use",
            None,
            entries.map(labelled),
        )?;
        let help = "Entries that fit";
        families.gauges("table_capacity", help, None, capacity.map(labelled))?;
        let help = "Events that the programs could not tell the agent";
        families.counters("events_lost", help, [([], status.events_lost)])
    }

    fn links(&self, families: &mut Families<'_>) -> Result<(), fmt::Error> {
        let up = self.links.iter().map(|link| {
            let is_up = link.state == LinkState::Up;
            ([("link", link.name.as_str())], u64::from(is_up))
        });
        families.gauges("link_up", "1: frames can leave over it", None, up)?;
        let help = "The MTU that the link leaves to guests";
        let mtus = self.links.iter().filter_map(|link| {
            let mtu = link.guest_mtu_bytes?;
            Some(([("link", link.name.as_str())], u64::from(mtu)))
        });
        families.gauges("link_guest_mtu", help, Some(&Unit::Bytes), mtus)
    }

    /// Every place that has books: its kind, its name and the books.
    fn places(&self) -> impl Iterator<Item = (&'static str, &str, &LedgerValues)> {
        let Stats {
            ports,
            links,
            underlays,
            agent,
        } = &self.stats;
        let ports = ports.iter().map(|side| ("port", side));
        let links = links.iter().map(|side| ("link", side));
        let underlays = underlays.iter().map(|side| ("underlay", side));
        ports
            .chain(links)
            .chain(underlays)
            .map(|(kind, side)| (kind, side.name.as_str(), &side.ledger))
            .chain([("agent", "", &agent.ledger)])
    }

    fn books(&self, families: &mut Families<'_>) -> Result<(), fmt::Error> {
        let at = |kind, name| [("place", kind), ("name", name)];
        let received = self
            .places()
            .map(|(kind, name, books)| (at(kind, name), books.received_packets));
        families.counters("received_packets", "Frames that came in here", received)?;
        let received = self
            .places()
            .map(|(kind, name, books)| (at(kind, name), books.received_bytes));
        families.counters("received_bytes", "Their bytes", received)?;
        let sent = self
            .places()
            .map(|(kind, name, books)| (at(kind, name), books.sent_packets));
        let help = "Frames that were handed to this place";
        families.counters("sent_packets", help, sent)?;
        let sent = self
            .places()
            .map(|(kind, name, books)| (at(kind, name), books.sent_bytes));
        families.counters("sent_bytes", "Their bytes", sent)?;
        let outcomes = self.places().flat_map(|(kind, name, books)| {
            [
                ("forwarded", books.forwarded),
                ("delivered", books.delivered),
                ("slow_path", books.slow_path),
                ("answered", books.answered),
                ("passed", books.passed),
                ("dropped", books.dropped),
            ]
            .map(|(outcome, frames)| {
                let [place, name] = at(kind, name);
                ([place, name, ("outcome", outcome)], frames)
            })
        });
        let help = "What became of the frames that came in here: they add up to received_packets";
        families.counters("outcome_packets", help, outcomes)?;
        let drops = self.stats.drops(false);
        let places: Vec<(String, &str, u64)> = drops
            .iter()
            .map(|drop| (drop.place.to_string(), drop.reason.name(), drop.packets))
            .collect();
        let dropped = places.iter().map(|(place, reason, frames)| {
            let (kind, name) = place.split_once(' ').unwrap_or((place, ""));
            let [place, name] = at(kind, name);
            ([place, name, ("reason", *reason)], *frames)
        });
        let help = "Frames dropped, by reason; those that the kernel refused at the place they were sent to";
        families.counters("dropped_packets", help, dropped)
    }

    fn slow_path(&self, families: &mut Families<'_>) -> Result<(), fmt::Error> {
        let agent = &self.stats.agent;
        let work = [
            ("taken", agent.taken),
            ("flooded", agent.flooded),
            ("copies", agent.copies),
            ("too_big_answered", agent.too_big_answered),
            ("too_big_unanswered", agent.too_big_unanswered),
            ("probe_replies", agent.probe_replies),
            ("carried", agent.carried),
        ];
        let help = "What the agent did with frames that were sent up to it";
        let work = work.map(|(what, frames)| ([("what", what)], frames));
        families.counters("slow_path_frames", help, work)?;
        let refused = agent.connections_refused.iter();
        let refused = refused.map(|(why, count)| ([("why", why.as_str())], *count));
        let help = "Connections for links that were refused, by why";
        families.counters("connections_refused", help, refused)
    }
}
