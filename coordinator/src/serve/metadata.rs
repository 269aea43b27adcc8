//! Metadata that the coordinator signs is signed anew before it expires.

use std::sync::Arc;
use std::time::Duration;

use crate::engine::Clock;
use crate::repository::{Repository, chain};

/// How often it is looked after.
const RENEW_EACH: Duration = Duration::from_hours(1);

/// Looks after it for ever.
pub(super) async fn renew(repository: Arc<Repository>, clock: Clock) {
    loop {
        tokio::time::sleep(RENEW_EACH).await;
        let (repository, now) = (repository.clone(), clock());
        match tokio::task::spawn_blocking(move || repository.renew(now)).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::error!(reason = %chain(&error), "nodes will not get fresh metadata"),
            Err(error) => tracing::error!(reason = %error, "nodes will not get fresh metadata"),
        }
    }
}
