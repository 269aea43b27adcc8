//! What an app wrote last, whoever ran it.

use std::time::Duration;

use orangery_wire::limits::OUTPUT_BYTES_MAX;
use orangery_wire::{AppName, ReleaseId};

use super::log::Log;
use super::systemd::systemctl;
use super::{Kind, Place, Runners};
use crate::launch::Launch;

/// Time for all of it.
const PATIENCE: Duration = Duration::from_secs(2);

/// From where on an app's output is of one release.
#[derive(Debug, Clone, Copy)]
pub(super) struct Begun {
    release: ReleaseId,
    kind: Kind,
    /// Unix time, by the node's own clock, which is the journal's.
    secs: u64,
    log_bytes: u64,
}

impl Runners {
    /// Remembers where the output of `launch` begins, unless it runs already.
    pub(super) fn begin_output(&self, place: &Place, launch: &Launch, kind: Kind) {
        let mut begun = place.begun();
        if begun.is_some_and(|begun| begun.release == launch.release) {
            return;
        }
        let log_bytes = Log::of(&self.layout.logs(&launch.app)).size_bytes();
        *begun = Some(Begun { release: launch.release, kind, secs: super::systemd::now_secs(), log_bytes });
    }

    /// The last that the app wrote, [`OUTPUT_BYTES_MAX`] bytes of it or so many lines: since this agent started its release, or else
    /// at any time. Empty if there is nothing to be had within two seconds. Reads only.
    pub async fn last_output(&self, app: &AppName, lines_max: usize) -> Vec<u8> {
        let begun = *self.place(app).begun();
        tokio::time::timeout(PATIENCE, self.output(app, begun, lines_max)).await.unwrap_or_default()
    }

    async fn output(&self, app: &AppName, begun: Option<Begun>, lines_max: usize) -> Vec<u8> {
        if begun.is_none_or(|begun| begun.kind == Kind::Process) {
            let log = Log::of(&self.layout.logs(app));
            let since = begun.map_or(0, |begun| begun.log_bytes);
            let read = tokio::task::spawn_blocking(move || log.last(since, OUTPUT_BYTES_MAX as u64)).await;
            let bytes = read.ok().and_then(Result::ok).unwrap_or_default();
            if begun.is_some() || !bytes.is_empty() {
                return bytes;
            }
        }
        if !self.settings.systemd_usable() {
            return Vec::new();
        }
        let unit = format!("orangery-{app}.service");
        systemctl::output(&unit, begun.map(|begun| begun.secs), lines_max).await.into_bytes()
    }
}
