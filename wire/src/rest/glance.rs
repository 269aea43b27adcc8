//! The fleet in few words, and how nodes were over the last day: what the dashboard shows.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::{AppName, NodeId, UnixTime, Version};
use crate::messages::Phase;

/// `GET /v1/fleet`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FleetView {
    /// The coordinator's version.
    pub version: String,
    /// The coordinator's clock.
    pub now: UnixTime,
    /// Whether it reaches its broker.
    pub broker_connected: bool,
    /// The id of the newest event that is in what follows; an event stream goes on after it.
    pub newest_event: u64,
    /// All nodes, by name.
    pub nodes: Vec<FleetNode>,
}

/// One node of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FleetNode {
    /// The node.
    pub node: NodeId,
    /// Whether it is connected.
    pub online: bool,
    /// Whether its certificate was revoked.
    pub revoked: bool,
    /// When anything was last heard of it.
    #[serde(default)]
    pub seen_at: Option<UnixTime>,
    /// The labels that it reports.
    pub labels: BTreeMap<String, String>,
    /// Whether it is held, for one app or for all.
    pub held: bool,
    /// Its apps.
    pub apps: Vec<FleetApp>,
    /// Why somebody should look at it, if somebody should: the gravest answer of `GET /v1/nodes/NODE/why`.
    #[serde(default)]
    pub attention: Option<Attention>,
}

/// One app of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FleetApp {
    /// The app.
    pub app: AppName,
    /// The proven version.
    #[serde(default)]
    pub current: Option<Version>,
    /// The version that it was told to run; `None`: none, or to stop.
    #[serde(default)]
    pub desired: Option<Version>,
    /// Where the deployment is; `None` before the node has reported the app.
    #[serde(default)]
    pub phase: Option<Phase>,
    /// Whether it has taken in and done what it was told, or has refused it.
    pub settled: bool,
    /// Whether it has refused what it was told.
    pub refused: bool,
    /// Whether the probes hold; `None` while nobody knows.
    #[serde(default)]
    pub healthy: Option<bool>,
}

/// Why somebody should look at a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Attention {
    /// The stable word of the answer.
    pub code: String,
    /// The whole sentence.
    pub text: String,
}

/// `GET /v1/nodes/NODE/health`: how a node was, as far as this run of the coordinator has heard.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct HealthHistory {
    /// Each point stands for so many seconds. It begins fine and becomes coarser, until the points reach over a day.
    pub point_secs: u64,
    /// The points, oldest first, at most 144. Where nothing was heard there is none.
    pub points: Vec<HealthPoint>,
}

/// The worst of what a node said in a span of time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct HealthPoint {
    /// When the span began, by the coordinator's clock.
    pub at: UnixTime,
    /// Load average over one minute.
    pub load_1m: f32,
    /// Memory in use, in thousandths; `None`: the node does not say.
    #[serde(default)]
    pub memory_permille: Option<u16>,
    /// Space in use on the file system that holds the state, in thousandths; `None`: the node does not say.
    #[serde(default)]
    pub disk_permille: Option<u16>,
    /// The hottest sensor, in degrees Celsius.
    #[serde(default)]
    pub temperature_celsius: Option<f32>,
}
