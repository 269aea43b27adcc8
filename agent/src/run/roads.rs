//! The road that the settings add, and the agent's own looks for newer metadata.

use std::sync::Arc;
use std::time::Duration;

use super::RunError;
use crate::backoff;
use crate::clock::Clock;
use crate::config::Settings;
use crate::driver::{Event, World};
use crate::fetch::Http;
use crate::road;

/// The first look for newer metadata comes within this time of the start.
const FIRST_REFRESH: Duration = Duration::from_secs(30);

/// The static web server that the settings name.
pub(super) fn mirror(settings: &Settings, clock: &Arc<Clock>) -> Result<Option<Http>, RunError> {
    let Some(url) = &settings.repository.url else { return Ok(None) };
    let stall = Duration::from_secs(settings.fetch.stall_secs);
    let site = road::site(url, settings.repository.ca_file.as_deref(), clock);
    site.map(|http| Some(http.stalling_after(stall))).map_err(RunError::UseRepository)
}

/// Looks for newer metadata, so that a node hears of what was revoked though nothing is deployed to it.
pub(super) async fn refresh_now_and_then(world: &World) {
    let interval = Duration::from_secs(world.settings.repository.refresh_secs);
    // A fleet that is switched on together does not ask together.
    let mut pause = some_of(interval.min(FIRST_REFRESH));
    loop {
        tokio::time::sleep(pause).await;
        pause = interval * 3 / 4 + some_of(interval / 2);
        match world.installer.refresh().await {
            Ok(()) => {
                if world.events.send(Event::Refreshed).is_err() {
                    return;
                }
            }
            Err(failure) => tracing::debug!(reason = %failure, "no newer metadata; will look again"),
        }
    }
}

/// A random part of `time`.
fn some_of(time: Duration) -> Duration {
    time * u32::try_from(backoff::random() % 1_000).unwrap_or_default() / 1_000
}
