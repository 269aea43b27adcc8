//! From disk to a trusted set. What lies there was verified when it was kept, and is verified again.

use std::sync::Arc;

use super::{Stored, Trusted, TrustedSet};
use crate::metadata::{Envelope, Role, Root, Snapshot, Targets, Timestamp};
use crate::refusal::Refusal;

impl TrustedSet {
    /// What was kept, verified again. Expiry is no reason to refuse here: expired metadata still shows a rollback.
    ///
    /// Root, timestamp and snapshot that are there but damaged are refused, never taken for absent: that would drop the
    /// protection against rollback. The caller then gives its previous copies. Two cases are not damage:
    /// - a timestamp or snapshot that an earlier root of `stored.roots` vouches for and the last one does not: the power
    ///   failed after a root with rotated keys was kept and before the rest was removed. Both are forgotten, as they
    ///   would have been (TUF 5.3.11);
    /// - a snapshot without a timestamp: the same, one file later.
    ///
    /// Targets that do not fit are left out and fetched again: it is the snapshot that keeps them from going back.
    ///
    /// # Errors
    /// [`Refusal::NoRoot`] if there is none; otherwise why the stored metadata cannot be trusted.
    pub fn load(stored: &Stored) -> Result<Self, Refusal> {
        let (first, next) = stored.roots.split_first().ok_or(Refusal::NoRoot)?;
        let mut set = Self::from_root(first)?;
        let mut earlier = Vec::new();
        for bytes in next {
            earlier.push(set.root.content.clone());
            set.accept_root(bytes)?;
        }
        set.load_online(stored, &earlier)?;
        set.targets = stored.targets.as_deref().and_then(|bytes| {
            let targets = Envelope::<Targets>::parse(bytes).ok()?;
            let signers = targets.verify(&set.root.content.targets).ok()?;
            Some(Arc::new(Trusted::new(targets, signers)))
        });
        Ok(set)
    }

    fn load_online(&mut self, stored: &Stored, earlier: &[Root]) -> Result<(), Refusal> {
        if let Some(bytes) = &stored.timestamp {
            let timestamp = self.vouched(Envelope::<Timestamp>::parse(bytes)?, earlier)?;
            let snapshot = match &stored.snapshot {
                Some(bytes) => Some(self.vouched(Envelope::<Snapshot>::parse(bytes)?, earlier)?),
                None => None,
            };
            // A snapshot may be missing, but one whose keys were rotated takes the timestamp with it.
            if let (Some(timestamp), None | Some(Some(_))) = (timestamp, &snapshot) {
                (self.timestamp, self.snapshot) = (Some(timestamp), snapshot.flatten());
                return Ok(());
            }
        }
        let on_disk = [(Role::Timestamp, &stored.timestamp), (Role::Snapshot, &stored.snapshot)];
        self.leftover = on_disk.into_iter().filter(|(_, bytes)| bytes.is_some()).map(|(role, _)| role).collect();
        Ok(())
    }

    /// The metadata as trusted; `None` if its keys were rotated since.
    fn vouched<T: crate::metadata::Content>(
        &self,
        signed: Envelope<T>,
        earlier: &[Root],
    ) -> Result<Option<Trusted<T>>, Refusal> {
        match signed.verify(self.root.content.keys_of(T::ROLE)) {
            Ok(signers) => Ok(Some(Trusted::new(signed, signers))),
            Err(_) if earlier.iter().any(|root| signed.verify(root.keys_of(T::ROLE)).is_ok()) => Ok(None),
            Err(refusal) => Err(refusal),
        }
    }
}
