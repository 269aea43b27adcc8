//! Holds: a node that is told nothing new, of one app or of any, until it is released or the hold ends.

use orangery_wire::NodeId;
use orangery_wire::rest::{HoldRequest, HoldView, ReleaseHoldRequest};

use super::core::{Done, Turn};
use super::plan::unknown_node;
use super::refused::Refused;
use super::rollouts::deed;

/// Longest hold that ends by itself: a year.
const HOLD_SECS_MAX: u64 = 366 * 86_400;

impl Turn<'_> {
    /// Holds a node. Again: the newer reason and end count.
    pub(super) fn hold(&mut self, node: &NodeId, request: &HoldRequest) -> Done<HoldView> {
        match self.view().node(node)? {
            None => return Ok(Err(unknown_node(node.as_str(), self.view().node_names()?.iter()))),
            Some(row) if row.revoked_at.is_some() => return Ok(Err(Refused::Revoked { node: row.node })),
            Some(_) => {}
        }
        if request.expires_secs.is_some_and(|secs| !(1..=HOLD_SECS_MAX).contains(&secs)) {
            return Ok(Err(Refused::DeedInvalid { rule: "a hold lasts from 1 second to 366 days" }));
        }
        let deed = match deed(&self.actor.who, &request.deed, self.now, true) {
            Ok(deed) => deed,
            Err(refused) => return Ok(Err(refused)),
        };
        let expires_at = request.expires_secs.map(|secs| self.now.saturating_add(secs));
        let hold = HoldView { app: request.app.clone(), expires_at, deed };
        self.batch.set_hold(node, &hold)?;
        let app = request.app.as_ref().map(ToString::to_string);
        tracing::info!(%node, app, by = hold.deed.by, reason = hold.deed.note, "node held");
        Ok(Ok(hold))
    }

    /// Ends a hold. If there is none, nothing changes.
    pub(super) fn release_hold(&mut self, node: &NodeId, request: &ReleaseHoldRequest) -> Done<()> {
        if self.view().node(node)?.is_none() {
            return Ok(Err(unknown_node(node.as_str(), self.view().node_names()?.iter())));
        }
        if self.batch.end_hold(node, request.app.as_ref())? {
            tracing::info!(%node, "node released");
            self.look_at_rollouts()?;
        }
        Ok(Ok(()))
    }
}
