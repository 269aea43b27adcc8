//! What must hold on the node, beside the app's probes, before a release becomes current.

use serde::{Deserialize, Serialize};

use super::InvalidManifest;
use super::rules::ensure;
use crate::limits;

/// The gate of a release. Left out, it is the usual one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Gate {
    /// Whether the node must reach its coordinator again.
    #[serde(skip_serializing_if = "Connectivity::is_auto")]
    pub connectivity: Connectivity,
    /// How long that may take once the probes held, in seconds. `None`: three times the slowest reconnection that the node
    /// has seen, a minute at least.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connectivity_secs: Option<u64>,
}

/// Whether a node that had its coordinator before a trial must reach it again for the release to become current.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Connectivity {
    /// It must, if it was connected when the trial began.
    #[default]
    Auto,
    /// The probes alone decide.
    None,
}

impl Connectivity {
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks with a reference")]
    fn is_auto(&self) -> bool {
        *self == Self::Auto
    }
}

impl Gate {
    /// Whether nothing was said of it.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    pub(super) fn validate(&self) -> Result<(), InvalidManifest> {
        let secs = self.connectivity_secs.unwrap_or(1);
        ensure((1..=limits::SECONDS_MAX).contains(&secs), "gate.connectivity_secs", || {
            format!("is not from 1 to {}", limits::SECONDS_MAX)
        })
    }
}
