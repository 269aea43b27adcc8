//! Targets of notifications: opened, and each told by a task of its own.

use std::sync::Arc;

use tokio::task::JoinHandle;

use super::ServeError;
use crate::config::Config;
use crate::engine::{Clock, Core, Engine};
use crate::notify::{Targets, deliver};
use crate::store::{Reader, Store};

/// The targets, of which the database then knows. `url` is the address by which this coordinator is known.
pub(super) fn open(config: &Config, url: &str) -> Result<Arc<Targets>, ServeError> {
    Ok(Arc::new(Targets::open(&config.notify, url)?))
}

/// Says in the database which targets there are.
pub(super) fn name_targets(config: &Config, store: &mut Store) -> Result<(), ServeError> {
    let names = config.notify.targets.iter().map(|target| target.name.as_str());
    Ok(store.commit(|batch| batch.set_notify_targets(names))?)
}

/// A core that writes down what targets are told, if there are any.
pub(super) fn told_by(config: &Config, core: Core) -> Core {
    if config.notify.targets.is_empty() { core } else { core.telling(config.notify.silent_secs) }
}

/// Starts to tell them. They have a reader of their own: a long list that is read for one keeps no request waiting.
pub(super) fn start(
    config: &Config,
    targets: &Targets,
    engine: &Engine,
    clock: &Clock,
) -> Result<Vec<JoinHandle<()>>, ServeError> {
    if targets.all().is_empty() {
        return Ok(Vec::new());
    }
    let reader = Arc::new(Reader::open(&config.database())?);
    let tell = |target| tokio::spawn(deliver(target, reader.clone(), engine.clone(), clock.clone()));
    Ok(targets.all().iter().cloned().map(tell).collect())
}
