//! How the apps of nodes are, by the newest of what nodes said: what rollouts compare releases by. Pure.

use std::collections::{BTreeMap, VecDeque};

use orangery_wire::limits::APPS_MAX;
use orangery_wire::messages::AppVitals;
use orangery_wire::{AppName, ReleaseId};
use serde::{Deserialize, Serialize};

/// Newest samples of one app on one node that are kept: half an hour at the usual interval of a minute, 256 bytes.
pub const SAMPLES_MAX: usize = 32;

/// What was heard of the apps of one node.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Apps(BTreeMap<AppName, Series>);

#[derive(Debug, Clone, PartialEq)]
struct Series {
    release: ReleaseId,
    memory_kib: Samples,
    probe_micros: Samples,
    /// As the node says it; counted anew when its agent was started again.
    restarts: u32,
    watched_secs: u64,
}

#[derive(Debug, Clone, Default, PartialEq)]
struct Samples(VecDeque<u32>);

/// How one release of an app is on one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vitals {
    /// The release.
    pub release: ReleaseId,
    /// Memory, in units of 1024 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_kib: Option<Quartiles>,
    /// Time that good answers to probes took, in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe_micros: Option<Quartiles>,
    /// How often it exited by itself.
    pub restarts: u32,
    /// In so many seconds.
    pub watched_secs: u64,
}

/// What samples lie between: three quarters of them are not below `low`, half not below `middle`, three quarters not above `high`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quartiles {
    /// The lower quartile.
    pub low: u32,
    /// The median.
    pub middle: u32,
    /// The upper quartile.
    pub high: u32,
    /// How many there are.
    pub samples: u32,
}

impl Apps {
    /// A node has said how its apps are. One that it does not name is not watched now; what was heard of it stays until another
    /// release is.
    pub fn note(&mut self, said: &[AppVitals]) {
        for vitals in said.iter().take(APPS_MAX) {
            let series = self.0.entry(vitals.app.clone()).or_insert_with(|| Series::of(vitals.release));
            if series.release != vitals.release {
                *series = Series::of(vitals.release);
            }
            series.add(vitals);
        }
        if self.0.len() > APPS_MAX {
            self.0.retain(|app, _| said.iter().any(|vitals| vitals.app == *app));
        }
    }

    /// How an app is.
    pub fn vitals(&self, app: &AppName) -> Option<Vitals> {
        self.0.get(app).map(Series::vitals)
    }
}

impl Series {
    fn of(release: ReleaseId) -> Self {
        let (memory_kib, probe_micros) = (Samples::default(), Samples::default());
        Self { release, memory_kib, probe_micros, restarts: 0, watched_secs: 0 }
    }

    fn add(&mut self, vitals: &AppVitals) {
        let kib = |bytes: u64| u32::try_from(bytes / 1_024).unwrap_or(u32::MAX);
        self.memory_kib.add(vitals.memory_bytes.map(kib));
        self.probe_micros.add(vitals.probe_micros);
        (self.restarts, self.watched_secs) = (vitals.restarts, vitals.watched_secs);
    }

    fn vitals(&self) -> Vitals {
        Vitals {
            release: self.release,
            memory_kib: self.memory_kib.quartiles(),
            probe_micros: self.probe_micros.quartiles(),
            restarts: self.restarts,
            watched_secs: self.watched_secs,
        }
    }
}

impl Samples {
    fn add(&mut self, sample: Option<u32>) {
        let Some(sample) = sample else { return };
        if self.0.len() >= SAMPLES_MAX {
            self.0.pop_front();
        }
        self.0.push_back(sample);
    }

    fn quartiles(&self) -> Option<Quartiles> {
        let mut sorted: Vec<u32> = self.0.iter().copied().collect();
        sorted.sort_unstable();
        let last = sorted.len().checked_sub(1)?;
        let at = |quarter: usize| sorted.get(last * quarter / 4).copied();
        let samples = u32::try_from(sorted.len()).unwrap_or(u32::MAX);
        Some(Quartiles { low: at(1)?, middle: at(2)?, high: at(3)?, samples })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use orangery_wire::Digest;

    fn said(release: u8, memory_kib: u64) -> AppVitals {
        AppVitals {
            app: "web".parse().unwrap(),
            release: ReleaseId(Digest([release; 32])),
            watched_secs: 60,
            restarts: 1,
            memory_bytes: Some(memory_kib * 1_024),
            probe_micros: None,
        }
    }

    #[test]
    fn the_newest_samples_of_the_newest_release_count() {
        let (mut apps, app) = (Apps::default(), "web".parse().unwrap());
        assert_eq!(apps.vitals(&app), None);
        for kib in 0..100 {
            apps.note(&[said(1, kib)]);
        }
        let seen = apps.vitals(&app).unwrap();
        assert_eq!(seen.memory_kib, Some(Quartiles { low: 75, middle: 83, high: 91, samples: 32 }));
        assert_eq!((seen.probe_micros, seen.restarts, seen.watched_secs), (None, 1, 60));
        apps.note(&[]);
        assert_eq!(apps.vitals(&app), Some(seen), "while another release is on trial nothing is said");
        apps.note(&[said(2, 7)]);
        let newer = apps.vitals(&app).unwrap().memory_kib.unwrap();
        assert_eq!((newer.low, newer.high, newer.samples), (7, 7, 1));
    }

    #[test]
    fn a_node_that_names_ever_other_apps_takes_no_more_room_for_it() {
        let mut apps = Apps::default();
        for k in 0..10 * APPS_MAX {
            apps.note(&[AppVitals { app: format!("a{k}").parse().unwrap(), ..said(1, 1) }]);
        }
        assert!(apps.0.len() <= APPS_MAX);
    }
}
