//! What Prometheus is told: the fleet as the coordinator sees it at the moment of the question, and the coordinator itself.
//!
//! Names follow <https://prometheus.io/docs/practices/naming/>, and docs/operating/monitoring.md lists them. Labels are bounded by
//! what is enrolled and published: nodes, apps, versions, routes and stable codes, never a text of a node's own. Revoked
//! nodes are left out. Gauges of the fleet are made anew for each question, so that what is gone is gone.

mod fleet;
mod notify;
mod rollouts;

use std::collections::BTreeMap;

use orangery_wire::rest::{NodeView, NotifyTargetView};
use orangery_wire::{NodeId, UnixTime};
use prometheus::core::Collector;
use prometheus::process_collector::ProcessCollector;
use prometheus::proto::MetricFamily;
use prometheus::{GaugeVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder};

pub use rollouts::Rollout;

/// How the text is called: version 0.0.4 of the exposition format.
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// What grows while the coordinator runs.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
}

/// What the coordinator knows at one moment.
#[derive(Debug, Default)]
pub struct Facts {
    /// The nodes that are not revoked.
    pub nodes: Vec<NodeView>,
    /// When the newest certificate of each node ends.
    pub certificates: Vec<(NodeId, UnixTime)>,
    /// Published releases by app.
    pub releases: BTreeMap<String, i64>,
    /// When each piece of published metadata expires, by role.
    pub expiries: Vec<(&'static str, UnixTime)>,
    /// Events stored since the start, by code.
    pub events: BTreeMap<&'static str, u64>,
    /// Messages of nodes that were heard since the start, by channel.
    pub messages: BTreeMap<&'static str, u64>,
    /// Whether the coordinator reaches the broker.
    pub broker_connected: bool,
    /// Whether Home Assistant's broker is reached, if there should be one.
    pub home_assistant: Option<bool>,
    /// Of the embedded broker, if it is that: connections, and how much it has refused.
    pub broker: Option<(usize, u64)>,
    /// Targets of notifications.
    pub notify: Vec<NotifyTargetView>,
    /// Rollouts that are under way.
    pub rollouts: Vec<Rollout>,
    /// Size of the database's file, in bytes.
    pub database_bytes: u64,
    /// Free bytes of the file system of the state directory.
    pub disk_free_bytes: Option<u64>,
}

impl Metrics {
    /// Nothing counted yet.
    ///
    /// # Errors
    /// Never but for a mistake in a name.
    pub fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let opts = Opts::new("orangery_http_requests_total", "Requests that were answered, by route and status.");
        let requests = IntCounterVec::new(opts, &["method", "route", "status"])?;
        registry.register(Box::new(requests.clone()))?;
        registry.register(Box::new(ProcessCollector::for_self()))?;
        Ok(Self { registry, requests })
    }

    /// Counts an answered request. `route` is the path with its `{names}`.
    pub fn count_request(&self, method: &str, route: &str, status: u16) {
        self.requests.with_label_values(&[method, route, &status.to_string()]).inc();
    }

    /// The page for one question.
    ///
    /// # Errors
    /// Never but for a mistake in a name.
    pub fn page(&self, facts: &Facts) -> prometheus::Result<String> {
        let page = Page::default();
        coordinator(&page, facts)?;
        fleet::tell(&page, facts)?;
        notify::tell(&page, facts)?;
        rollouts::tell(&page, &facts.rollouts)?;
        let mut families: Vec<MetricFamily> = self.registry.gather();
        families.extend(page.registry.gather());
        TextEncoder::new().encode_to_string(&families)
    }
}

/// Gauges of one moment.
#[derive(Default)]
struct Page {
    registry: Registry,
}

impl Page {
    fn add<C: Collector + Clone + 'static>(&self, metric: prometheus::Result<C>) -> prometheus::Result<C> {
        let metric = metric?;
        self.registry.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    fn one(&self, name: &str, help: &str, value: i64) -> prometheus::Result<()> {
        self.add(IntGauge::new(name, help))?.set(value);
        Ok(())
    }

    /// Whole numbers, times and truths.
    fn whole(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntGaugeVec> {
        self.add(IntGaugeVec::new(Opts::new(name, help), labels))
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<GaugeVec> {
        self.add(GaugeVec::new(Opts::new(name, help), labels))
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntCounterVec> {
        self.add(IntCounterVec::new(Opts::new(name, help), labels))
    }
}

fn coordinator(page: &Page, facts: &Facts) -> prometheus::Result<()> {
    let version = page.whole("orangery_build_info", "The coordinator's version.", &["version"])?;
    version.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
    let connected = "Whether the coordinator reaches its broker.";
    page.one("orangery_broker_connected", connected, facts.broker_connected.into())?;
    if let Some(connected) = facts.home_assistant {
        let help = "Whether the coordinator reaches the broker of Home Assistant.";
        page.one("orangery_home_assistant_connected", help, connected.into())?;
    }
    if let Some((connections, denied)) = facts.broker {
        page.one("orangery_broker_connections", "Nodes connected to the embedded broker.", whole(connections as u64))?;
        let help = "Handshakes, connections, subscriptions and messages that the embedded broker refused.";
        page.counters("orangery_broker_denied_total", help, &[])?.with_label_values::<&str>(&[]).inc_by(denied);
    }
    let bytes = "Size of the coordinator's database file.";
    page.one("orangery_database_bytes", bytes, whole(facts.database_bytes))?;
    if let Some(free) = facts.disk_free_bytes {
        page.one("orangery_disk_free_bytes", "Free space where the coordinator keeps its state.", whole(free))?;
    }
    let releases = page.whole("orangery_releases", "Published releases.", &["app"])?;
    for (app, count) in &facts.releases {
        releases.with_label_values(&[app.as_str()]).set(*count);
    }
    let help = "When the published metadata of a role expires; nodes take no new release after that.";
    let expiries = page.whole("orangery_metadata_expires_timestamp_seconds", help, &["role"])?;
    for (role, at) in &facts.expiries {
        expiries.with_label_values(&[*role]).set(whole(*at));
    }
    let help = "Events that were stored since the coordinator started, by code.";
    let events = page.counters("orangery_events_total", help, &["code"])?;
    for (code, count) in &facts.events {
        events.with_label_values(&[*code]).inc_by(*count);
    }
    let help = "Messages of nodes that were heard since the coordinator started, by channel.";
    let messages = page.counters("orangery_messages_total", help, &["channel"])?;
    for (channel, count) in &facts.messages {
        messages.with_label_values(&[*channel]).inc_by(*count);
    }
    Ok(())
}

/// As large as the format allows; nothing real is larger.
fn whole(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
