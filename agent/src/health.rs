//! How the node is: a few numbers of the kernel, read when they are asked for and not kept.

use std::path::{Path, PathBuf};

use orangery_wire::messages::Health;
use sysinfo::{Components, MemoryRefreshKind, System};

use crate::clock::Clock;

/// What no sensor measures on a board that still works; broken ones say such things.
const TEMPERATURES_CELSIUS: std::ops::RangeInclusive<f32> = -60.0..=200.0;

/// Takes samples.
#[derive(Debug, Clone)]
pub struct Sampler {
    state_dir: PathBuf,
}

impl Sampler {
    /// Samples with the space of the file system that holds `state_dir`.
    pub fn new(state_dir: &Path) -> Self {
        Self { state_dir: state_dir.to_owned() }
    }

    /// How the node is now. Reads a dozen small files of the kernel, which takes about a millisecond, and blocks for it.
    /// What the kernel does not say is 0 or `None`.
    pub fn sample(&self, clock: &Clock) -> Health {
        let (memory_bytes, memory_used_bytes) = memory();
        let (disk_bytes, disk_free_bytes) = self.disk();
        Health {
            at: clock.now(),
            load_1m: System::load_average().map_or(0.0, |load| load.one),
            memory_bytes,
            memory_used_bytes,
            disk_bytes,
            disk_free_bytes,
            reserve: None,
            temperature_celsius: hottest(),
            uptime_secs: System::uptime().unwrap_or(0),
            clock: clock.state(),
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            apps: Vec::new(),
        }
    }

    /// Asks for this one file system alone: a list of all would stop at a network mount that hangs.
    fn disk(&self) -> (u64, u64) {
        rustix::fs::statvfs(&self.state_dir)
            .map_or((0, 0), |fs| (fs.f_blocks.saturating_mul(fs.f_frsize), fs.f_bavail.saturating_mul(fs.f_frsize)))
    }
}

fn memory() -> (u64, u64) {
    let Ok(mut system) = System::new() else { return (0, 0) };
    system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
    (system.total_memory(), system.used_memory())
}

fn hottest() -> Option<f32> {
    let sensors = Components::new_with_refreshed_list().ok()?;
    let all = sensors.iter().filter_map(sysinfo::Component::temperature);
    all.filter(|celsius| TEMPERATURES_CELSIUS.contains(celsius)).max_by(f32::total_cmp)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_has_what_every_linux_says() {
        let directory = tempfile::tempdir().unwrap();
        let health = Sampler::new(directory.path()).sample(&Clock::new(0));
        assert!(health.at >= crate::clock::build_time());
        assert!(health.load_1m >= 0.0 && health.load_1m.is_finite());
        assert!(health.memory_used_bytes > 0 && health.memory_used_bytes < health.memory_bytes);
        assert!(health.disk_free_bytes > 0 && health.disk_free_bytes <= health.disk_bytes);
        assert!(health.uptime_secs > 0);
        assert!(health.temperature_celsius.is_none_or(|celsius| TEMPERATURES_CELSIUS.contains(&celsius)));
        assert_eq!(health.agent_version, env!("CARGO_PKG_VERSION"));
    }

    #[test]
    fn a_directory_that_is_gone_has_no_space() {
        let health = Sampler::new(Path::new("/nonexistent")).sample(&Clock::new(0));
        assert_eq!((health.disk_bytes, health.disk_free_bytes), (0, 0));
    }
}
