//! Invites, who used them, and certificates.

use orangery_wire::{Digest, NodeId, UnixTime};
use rusqlite::OptionalExtension as _;

use super::rows::{parsed, parsed_option};
use super::{Batch, StoreError, View};

/// An invite token, without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invite {
    /// The name that the node gets; `None`: the one that it asks for.
    pub name: Option<NodeId>,
    /// When it ends.
    pub expires_at: UnixTime,
    /// How many nodes may still use it.
    pub uses_left: u32,
}

impl View<'_> {
    /// The invite whose secret has this SHA-256. The look-up is by hash: its timing tells nothing about a secret.
    pub fn invite(&self, secret: &Digest) -> Result<Option<Invite>, StoreError> {
        let sql = "SELECT name, expires_at, uses_left FROM invites WHERE secret = ?1";
        let invite = self.connection.prepare_cached(sql)?.query_row([secret.to_string()], |row| {
            Ok(Invite { name: parsed_option(row, 0)?, expires_at: row.get(1)?, uses_left: row.get(2)? })
        });
        Ok(invite.optional()?)
    }

    /// The node that this key became with this invite.
    pub fn joined(&self, secret: &Digest, key: &Digest) -> Result<Option<NodeId>, StoreError> {
        let sql = "SELECT node FROM joins WHERE secret = ?1 AND key = ?2";
        let node =
            self.connection.prepare_cached(sql)?.query_row([secret.to_string(), key.to_string()], |row| parsed(row, 0));
        Ok(node.optional()?)
    }

    /// Whether the node has a certificate for this key that is not revoked.
    pub fn has_key(&self, node: &NodeId, key: &Digest) -> Result<bool, StoreError> {
        let sql = "SELECT EXISTS (SELECT 1 FROM certificates WHERE node = ?1 AND key = ?2 AND revoked_at IS NULL)";
        Ok(self.connection.prepare_cached(sql)?.query_row([node.as_str(), &key.to_string()], |row| row.get(0))?)
    }

    /// The revoked nodes.
    pub fn revoked_nodes(&self) -> Result<Vec<NodeId>, StoreError> {
        let mut statement = self.connection.prepare_cached("SELECT node FROM nodes WHERE revoked_at IS NOT NULL")?;
        let rows = statement.query_map([], |row| parsed(row, 0))?.collect::<rusqlite::Result<_>>()?;
        Ok(rows)
    }

    /// When the last certificate of each node ends that is not revoked, by node.
    pub fn certificate_ends(&self) -> Result<Vec<(NodeId, UnixTime)>, StoreError> {
        let sql = "SELECT node, max(not_after) FROM certificates WHERE revoked_at IS NULL GROUP BY node ORDER BY node";
        let mut statement = self.connection.prepare_cached(sql)?;
        let rows =
            statement.query_map([], |row| Ok((parsed(row, 0)?, row.get(1)?)))?.collect::<rusqlite::Result<_>>()?;
        Ok(rows)
    }
}

/// Certificates that are kept of one node. A node renews one some time before it ends, so that a few are good at once.
const CERTIFICATES_KEPT: u32 = 8;

impl Batch<'_> {
    /// Adds an invite.
    pub fn add_invite(&self, secret: &Digest, invite: &Invite) -> Result<(), StoreError> {
        self.execute(
            "INSERT INTO invites (secret, name, expires_at, uses_left) VALUES (?1, ?2, ?3, ?4)",
            (secret.to_string(), invite.name.as_ref().map(NodeId::as_str), invite.expires_at, invite.uses_left),
        )?;
        Ok(())
    }

    /// Counts one use of an invite by the owner of `key`. `false`: there was none left.
    pub fn use_invite(&self, secret: &Digest, key: &Digest, node: &NodeId) -> Result<bool, StoreError> {
        let sql = "UPDATE invites SET uses_left = uses_left - 1 WHERE secret = ?1 AND uses_left > 0";
        let used = self.execute(sql, [secret.to_string()])? == 1;
        if used {
            self.execute(
                "INSERT INTO joins (secret, key, node) VALUES (?1, ?2, ?3) \
                 ON CONFLICT (secret, key) DO UPDATE SET node = ?3",
                (secret.to_string(), key.to_string(), node.as_str()),
            )?;
        }
        Ok(used)
    }

    /// Deletes invites that ended before `at`. They are kept for a while so that "expired" can be told from "unknown".
    pub fn forget_invites(&self, at: UnixTime) -> Result<(), StoreError> {
        self.execute("DELETE FROM invites WHERE expires_at < ?1", [at])?;
        Ok(())
    }

    /// Notes a certificate that is about to be handed out, and forgets the oldest of the node's that are too many: a node that renews
    /// again and again must not fill the disk. A revoked node's stay as they are; it gets no more.
    pub fn add_certificate(
        &self,
        node: &NodeId,
        serial: &str,
        key: &Digest,
        at: UnixTime,
        not_after: UnixTime,
    ) -> Result<(), StoreError> {
        self.execute(
            "INSERT INTO certificates (serial, node, key, issued_at, not_after) VALUES (?1, ?2, ?3, ?4, ?5)",
            (serial, node.as_str(), key.to_string(), at, not_after),
        )?;
        // The new one stays whatever its time: the clock may have been wrong before.
        self.execute(
            "DELETE FROM certificates WHERE serial IN (SELECT serial FROM certificates \
             WHERE node = ?1 AND serial <> ?2 AND revoked_at IS NULL ORDER BY issued_at DESC, serial LIMIT -1 OFFSET ?3)",
            (node.as_str(), serial, CERTIFICATES_KEPT - 1),
        )?;
        Ok(())
    }
}
