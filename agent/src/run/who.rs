//! Who runs: a node of a coordinator, or one that has not joined yet and runs what its image came with.

use std::future::pending;
use std::sync::Arc;

use orangery_wire::NodeId;
use orangery_wire::token::Token;

use super::RunError;
use crate::clock::Clock;
use crate::config::Settings;
use crate::disk::Disk;
use crate::driver::World;
use crate::first_boot::{self, Invited};
use crate::identity::{self, Identity};
use crate::layout::Layout;
use crate::{preload, record, tls};

/// Who runs.
pub(super) enum Who {
    /// A node of a coordinator.
    Joined(Arc<Identity>),
    /// One that will be. It has a root of trust, and something that it can run.
    Newcomer { token: Token, node: NodeId },
}

impl Who {
    /// Finds out. One that has not joined does so now, if a file on its boot partition says how, and unless there is something
    /// to run meanwhile.
    pub(super) async fn find(
        settings: &Settings,
        layout: &Layout,
        disk: &dyn Disk,
        clock: &Arc<Clock>,
    ) -> Result<Self, RunError> {
        let files = &settings.first_boot.files;
        let identity = identity::load(disk, layout)
            .map_err(|source| RunError::ReadIdentity { path: layout.identity(), source })?;
        if let Some(identity) = identity {
            first_boot::clean(files, &identity);
            return Ok(Self::Joined(Arc::new(identity)));
        }
        if let Some(Invited { token, name: Some(node) }) = first_boot::invited(files)
            && (preload::any(disk, layout) || !record::apps(disk, layout).is_empty())
            && preload::trust(disk, layout, &token, clock).await
        {
            return Ok(Self::Newcomer { token, node });
        }
        let joined = first_boot::join(files, disk, layout, clock).await?.ok_or(RunError::NotJoined)?;
        Ok(Self::Joined(Arc::new(joined)))
    }

    pub(super) fn node(&self) -> &NodeId {
        match self {
            Self::Joined(identity) => &identity.node,
            Self::Newcomer { node, .. } => node,
        }
    }

    pub(super) fn url(&self) -> &str {
        match self {
            Self::Joined(identity) => &identity.url,
            Self::Newcomer { token, .. } => &token.url,
        }
    }

    pub(super) fn mqtt(&self) -> &str {
        self.identity().map_or("", |identity| &identity.mqtt)
    }

    pub(super) fn identity(&self) -> Option<&Arc<Identity>> {
        match self {
            Self::Joined(identity) => Some(identity),
            Self::Newcomer { .. } => None,
        }
    }

    /// Whom to believe, and who to say one is.
    pub(super) fn tls(&self, clock: &Arc<Clock>) -> Arc<rustls::ClientConfig> {
        match self {
            Self::Joined(identity) => tls::client_config(identity, clock.clone()),
            Self::Newcomer { token, .. } => tls::join_config(token.ca, clock.clone()),
        }
    }
}

/// Installs what came with the image, then keeps the certificate fresh. A newcomer joins instead, and that ends it: the next
/// start is one of a node that has joined.
pub(super) async fn settle_in(world: &World) {
    preload::install(&*world.disk, &world.layout, &world.clock, &world.events).await;
    if let Some(identity) = &world.identity {
        identity::keep_fresh(&world.disk, &world.layout, identity, &world.clock).await;
        return pending().await;
    }
    loop {
        match first_boot::join(&world.settings.first_boot.files, &*world.disk, &world.layout, &world.clock).await {
            Ok(Some(identity)) => {
                tracing::info!(node = %identity.node, "the node has joined; the agent ends, to be started as what it now is");
                return;
            }
            // Somebody took the file away.
            Ok(None) => return pending().await,
            Err(error) => tracing::warn!(reason = %crate::errors::chain(&error), "the node has not joined yet"),
        }
    }
}
