//! Who may become a node, and who may stay one.

use orangery_wire::rest::InviteRequest;
use orangery_wire::topics::COORDINATOR;
use orangery_wire::{Digest, NodeId, UnixTime};

use super::audit::Record;
use super::command::{Joining, Renewing};
use super::core::{Done, Turn};
use super::plan::unknown_node;
use super::refused::Refused;
use crate::ca::Issued;
use crate::store::Invite;

/// Shortest and longest life of an invite, in seconds.
const INVITE_SECS: std::ops::RangeInclusive<u64> = 1..=30 * 86_400;
/// Most boards that may use one invite.
const INVITE_USES_MAX: u32 = 1_000;
/// Ended invites are kept this long, so that "expired" can be told from "unknown", in seconds.
const ENDED_INVITES_KEPT_SECS: u64 = 90 * 86_400;
/// Names that mean something else: the coordinator's own in topics, and the selector of all nodes.
const RESERVED: [&str; 2] = [COORDINATOR, "all"];

impl Turn<'_> {
    pub(super) fn invite(&mut self, secret: &Digest, request: &InviteRequest) -> Done<UnixTime> {
        let rule = if !INVITE_SECS.contains(&request.expires_secs) {
            Some("it must last from 1 second to 30 days")
        } else if !(1..=INVITE_USES_MAX).contains(&request.uses) {
            Some("it must have from 1 to 1000 uses")
        } else if request.name.is_some() && request.uses != 1 {
            Some("one with a name can be used once only: a name is for one node")
        } else {
            None
        };
        if let Some(rule) = rule {
            return Ok(Err(Refused::InviteInvalid { rule }));
        }
        if let Some(name) = &request.name
            && let Err(refused) = self.check_name(name)?
        {
            return Ok(Err(refused));
        }
        let expires_at = self.now.saturating_add(request.expires_secs);
        self.batch.forget_invites(self.now.saturating_sub(ENDED_INVITES_KEPT_SECS))?;
        let invite = Invite { name: request.name.clone(), expires_at, uses_left: request.uses };
        self.batch.add_invite(secret, &invite)?;
        tracing::info!(node = request.name.as_ref().map(NodeId::as_str), uses = request.uses, "invite made");
        Ok(Ok(expires_at))
    }

    pub(super) fn join(&mut self, joining: Joining) -> Done<(NodeId, Issued)> {
        let Joining { secret, key, wish, issue } = joining;
        let node = match self.name_for(&secret, &key, wish.as_deref())? {
            Ok(node) => node,
            Err(refused) => return Ok(Err(refused)),
        };
        let issued = match issue(&node, self.now) {
            Ok(issued) => issued,
            Err(reason) => return Ok(Err(Refused::RequestInvalid { reason })),
        };
        let again = self.view().has_key(&node, &key)?;
        if again {
            // An answer that was lost is given again: that is nothing new.
            self.record = None;
        } else {
            self.batch.admit(&node, self.now)?;
            self.record = self.record.take().map(|record| Record { object: format!("node {node}"), ..record });
            self.tell_of_join(&node)?;
        }
        self.batch.add_certificate(&node, &issued.serial, &key, self.now, issued.not_after)?;
        self.known.add(&node);
        tracing::info!(%node, again, "node joined");
        Ok(Ok((node, issued)))
    }

    /// Decides whether and under which name a board is taken in, and counts the use of its invite. A board that used the
    /// invite before, shown by its key, may ask again: its answer was lost.
    fn name_for(&mut self, secret: &Digest, key: &Digest, wish: Option<&str>) -> Done<NodeId> {
        let Some(invite) = self.view().invite(secret)? else { return Ok(Err(Refused::TokenUnknown)) };
        if invite.expires_at <= self.now {
            return Ok(Err(Refused::TokenExpired { expired_at: invite.expires_at }));
        }
        if let Some(node) = self.view().joined(secret, key)?
            && self.view().has_key(&node, key)?
        {
            return Ok(Ok(node));
        }
        if invite.uses_left == 0 {
            return Ok(Err(Refused::TokenUsed));
        }
        let node = match invite.name.map_or_else(|| host_name(wish), Ok) {
            Ok(node) => node,
            Err(refused) => return Ok(Err(refused)),
        };
        if !self.view().has_key(&node, key)?
            && let Err(refused) = self.check_name(&node)?
        {
            return Ok(Err(refused));
        }
        Ok(if self.batch.use_invite(secret, key, &node)? { Ok(node) } else { Err(Refused::TokenUsed) })
    }

    /// A name is free if no node has or had it.
    fn check_name(&self, node: &NodeId) -> Done<()> {
        if RESERVED.contains(&node.as_str()) {
            return Ok(Err(Refused::NameReserved { name: node.to_string() }));
        }
        Ok(match self.view().node(node)? {
            None => Ok(()),
            Some(row) if row.revoked_at.is_some() => Err(Refused::NameRevoked { node: row.node }),
            Some(row) => Err(Refused::NameTaken { node: row.node }),
        })
    }

    pub(super) fn renew(&mut self, renewing: Renewing) -> Done<Issued> {
        let Renewing { node, key, issue } = renewing;
        // TLS took its certificate; a database that was lost since may not know it.
        match self.view().node(&node)? {
            Some(row) if row.revoked_at.is_some() => return Ok(Err(Refused::Revoked { node })),
            Some(_) => {}
            None => self.batch.admit(&node, self.now)?,
        }
        let issued = match issue(&node, self.now) {
            Ok(issued) => issued,
            Err(reason) => return Ok(Err(Refused::RequestInvalid { reason })),
        };
        self.batch.add_certificate(&node, &issued.serial, &key, self.now, issued.not_after)?;
        self.known.add(&node);
        tracing::info!(%node, "certificate renewed");
        Ok(Ok(issued))
    }

    pub(super) fn revoke(&mut self, node: &NodeId) -> Done<()> {
        if self.view().node(node)?.is_none() {
            return Ok(Err(unknown_node(node.as_str(), self.view().node_names()?.iter())));
        }
        self.batch.revoke(node, self.now)?;
        self.outcome.cut_off.push(node.clone());
        self.live.update(node, |seen| seen.online = false);
        tracing::info!(%node, "node revoked");
        Ok(Ok(()))
    }
}

/// The name in a board's host name: its first label, in lower case ("Attic.local" is attic).
fn host_name(wish: Option<&str>) -> Result<NodeId, Refused> {
    let wish = wish.unwrap_or_default();
    let first = wish.split('.').next().unwrap_or_default().to_ascii_lowercase();
    first.parse().map_err(|invalid: orangery_wire::ids::InvalidId| Refused::NameInvalid { reason: invalid.to_string() })
}
