//! Releases that came with a board's image: bundles in `preload/`, installed before the board has ever reached anybody.
//!
//! They are judged as anything that is brought to a node: by the owner's root, which here is the one that the invite token
//! names. Each is brought a few times at most, counted in its name, for what it carries may take the board down. An app that has
//! a record needs its bundle no more: a deployment that has begun goes on by itself, and what was decided since is newer.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use orangery_wire::limits::APPS_MAX;
use orangery_wire::token::Token;

use crate::clock::Clock;
use crate::control::{InstallView, Reply, Request};
use crate::deployment::Record;
use crate::disk::Disk;
use crate::driver::Event;
use crate::errors::chain;
use crate::identity;
use crate::layout::Layout;
use crate::record;
use crate::road::{Place, Road};

/// What a bundle's name ends with; `.1` and so on are added with each attempt.
const SUFFIX: &str = ".bundle";
/// Attempts with one bundle.
const ATTEMPTS_MAX: u32 = 5;
/// Time between two looks at how it goes.
const LOOK: Duration = Duration::from_millis(500);
/// Where a bundle has the owner's first root.
const FIRST_ROOT: &str = "/metadata/1.root.json";
/// Most bytes of a root that are read.
const ROOT_BYTES_MAX: u64 = 512 * 1024;

/// A bundle in `preload/`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Preloaded {
    path: PathBuf,
    /// How often it was brought.
    attempts: u32,
}

impl Preloaded {
    /// `NAME.bundle` and `NAME.bundle.N`; anything else is none of ours.
    fn named(path: PathBuf) -> Option<Self> {
        let name = path.file_name()?.to_str()?;
        let (_, attempts) = name.rsplit_once(SUFFIX)?;
        let attempts = match attempts.strip_prefix('.') {
            Some(count) => count.parse().ok()?,
            None if attempts.is_empty() => 0,
            None => return None,
        };
        Some(Self { path, attempts })
    }

    /// The same after one more attempt.
    fn next(&self) -> Option<Self> {
        let name = self.path.file_name()?.to_str()?;
        let (base, _) = name.rsplit_once(SUFFIX)?;
        let attempts = self.attempts.saturating_add(1);
        Some(Self { path: self.path.with_file_name(format!("{base}{SUFFIX}.{attempts}")), attempts })
    }
}

/// Whether anything came with the image that was not yet installed.
pub fn any(disk: &dyn Disk, layout: &Layout) -> bool {
    !bundles(disk, layout).is_empty()
}

fn bundles(disk: &dyn Disk, layout: &Layout) -> Vec<Preloaded> {
    let directory = layout.preload();
    let names = disk.list(&directory).unwrap_or_default();
    names.into_iter().filter_map(|name| Preloaded::named(directory.join(name))).take(APPS_MAX).collect()
}

/// Has the node trust the owner's first root as a bundle has it, if it is the one that the token names, and if the node trusts
/// nobody yet. Returns whether it trusts anybody now.
pub async fn trust(disk: &dyn Disk, layout: &Layout, token: &Token, clock: &Arc<Clock>) -> bool {
    if identity::trusts(disk, layout) {
        return true;
    }
    for bundle in bundles(disk, layout) {
        let path = bundle.path.display().to_string();
        let root = match Road::open(&Place::Path(bundle.path), clock) {
            Ok(road) => road.get(FIRST_ROOT, ROOT_BYTES_MAX).await,
            Err(error) => {
                tracing::warn!(path, reason = %chain(&error), "cannot read what came with the image");
                continue;
            }
        };
        match root {
            Ok(Some(root)) => match identity::trust_first_root(disk, layout, token, &root) {
                Ok(()) => return true,
                Err(error) => {
                    tracing::error!(path, reason = %chain(&error), "what came with the image is not installed");
                }
            },
            Ok(None) => tracing::error!(path, "what came with the image has no root of trust, and is not installed"),
            Err(error) => tracing::warn!(path, reason = %chain(&error), "cannot read what came with the image"),
        }
    }
    false
}

/// Brings each bundle to the driver and waits until it is committed or refused. Done when there is none left to try.
pub async fn install(disk: &dyn Disk, layout: &Layout, clock: &Arc<Clock>, events: &Sender<Event>) {
    for bundle in bundles(disk, layout) {
        let path = bundle.path.display().to_string();
        let Some(next) = bundle.next().filter(|next| next.attempts <= ATTEMPTS_MAX) else {
            tracing::error!(path, "what came with the image was tried {ATTEMPTS_MAX} times; it is removed");
            remove(disk, &bundle.path);
            continue;
        };
        // Counted before it is tried, so that a release that takes the board down cannot do so for ever.
        let counted = disk.rename(&bundle.path, &next.path).and_then(|()| disk.sync_dir(&layout.preload()));
        if let Err(error) = counted {
            tracing::warn!(path, reason = %error, "cannot begin with what came with the image");
            continue;
        }
        match bring(disk, layout, &next.path, clock, events).await {
            Some(Ended::Outdated) => {
                tracing::info!(path, "the app has a record already; what came with the image is removed");
            }
            Some(Ended::Installed) => tracing::info!(path, "what came with the image is installed"),
            Some(Ended::Refused(reason)) => {
                tracing::warn!(path, reason, "what came with the image is not installed");
            }
            // Perhaps at the next start.
            Some(Ended::Later(reason)) => {
                tracing::warn!(path, reason, "what came with the image is not installed yet");
                continue;
            }
            None => return,
        }
        remove(disk, &next.path);
    }
}

enum Ended {
    Installed,
    /// The app has a record already.
    Outdated,
    Refused(String),
    Later(String),
}

/// `None` when the driver is gone.
async fn bring(
    disk: &dyn Disk,
    layout: &Layout,
    path: &Path,
    clock: &Arc<Clock>,
    events: &Sender<Event>,
) -> Option<Ended> {
    let place = Place::Path(path.to_owned());
    let claims = match Road::open(&place, clock) {
        Ok(road) => road.claims(),
        Err(error) => return Some(Ended::Refused(chain(&error))),
    };
    let Ok([(app, version)]) = <[_; 1]>::try_from(claims) else {
        return Some(Ended::Refused("a bundle that comes with an image has exactly one release".to_owned()));
    };
    if record::load_app(disk, layout, &app).state.record != Record::default() {
        return Some(Ended::Outdated);
    }
    let mut reply = ask(events, Request::Install { app, version, place }).await?;
    loop {
        match reply {
            Reply::Install(view) => match *view {
                InstallView::Current => return Some(Ended::Installed),
                InstallView::Failed { code: Some(code), reason, .. } => {
                    return Some(Ended::Refused(format!("{reason} [{code}]")));
                }
                InstallView::Failed { code: None, reason, .. } => return Some(Ended::Later(reason)),
                InstallView::None => return Some(Ended::Later("something else was installed meanwhile".to_owned())),
                InstallView::Reading { .. } | InstallView::Trying { .. } => {}
            },
            Reply::Refused(reason) => return Some(Ended::Later(reason)),
            _ => return None,
        }
        tokio::time::sleep(LOOK).await;
        reply = ask(events, Request::InstallState).await?;
    }
}

async fn ask(events: &Sender<Event>, request: Request) -> Option<Reply> {
    let (tell, told) = tokio::sync::oneshot::channel();
    events.send(Event::Control(request, tell)).ok()?;
    told.await.ok()
}

fn remove(disk: &dyn Disk, path: &Path) {
    if let Err(error) = disk.remove_file(path) {
        tracing::warn!(path = %path.display(), reason = %error, "cannot remove what came with the image");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_are_counted_in_the_name() {
        let of = |name: &str| Preloaded::named(PathBuf::from("/p").join(name));
        let first = of("greeter@1.0.0.bundle").unwrap();
        assert_eq!(first.attempts, 0);
        let second = first.next().unwrap();
        assert_eq!(second.path, Path::new("/p/greeter@1.0.0.bundle.1"));
        assert_eq!(second.next().unwrap(), of("greeter@1.0.0.bundle.2").unwrap());
        for other in ["greeter", "greeter.bundle.x", "greeter.bundle-1", ".greeter.bundle.new"] {
            assert_eq!(of(other), None, "{other}");
        }
    }
}
