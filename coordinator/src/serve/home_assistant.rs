//! The bridge to Home Assistant, if there should be one.

use std::sync::Arc;

use super::ServeError;
use crate::config::Config;
use crate::engine::{Clock, Engine};
use crate::home_assistant::{Bridge, Parts};
use crate::repository::Repository;
use crate::store::Reader;

/// Starts it, with a reader of its own. `url` is the address by which this coordinator is known.
pub(super) fn start(
    config: &Config,
    engine: &Engine,
    repository: &Arc<Repository>,
    clock: &Clock,
    url: &str,
) -> Result<Option<Bridge>, ServeError> {
    let Some(settings) = &config.home_assistant else { return Ok(None) };
    // Where browsers reach the coordinator, if that is somewhere else than where nodes do.
    let url = config.https.public_urls.first().map_or(url, String::as_str).to_owned();
    let reader = Reader::open(&config.database())?;
    let (engine, repository, clock) = (engine.clone(), repository.clone(), clock.clone());
    Ok(Some(Bridge::start(settings, Parts { engine, reader, repository, clock, url })?))
}

/// Ends it.
pub(super) async fn stop(bridge: Option<Bridge>) {
    if let Some(bridge) = bridge {
        bridge.stop().await;
    }
}
