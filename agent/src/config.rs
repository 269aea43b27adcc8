//! The node's settings: `agent.toml` and what `agent.d/*.toml` lays over it.
//!
//! What is written, merged and valid are three things: TOML tables are merged first, then read with unknown keys refused,
//! then checked.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use orangery_wire::{AppName, limits, manifest::is_variable};
use serde::Deserialize;

/// Where the settings are unless `--config` says otherwise.
pub const DEFAULT_PATH: &str = "/etc/orangery/agent.toml";

/// Valid settings. Defaults are documented in `agent.example.toml`, which a test reads.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The state directory.
    pub state_dir: PathBuf,
    /// The node's labels.
    pub labels: BTreeMap<String, String>,
    /// Enrolment by a file.
    pub first_boot: FirstBoot,
    /// Outbox and history.
    pub store: Store,
    /// How apps run.
    pub runner: Runner,
    /// The MQTT connection.
    pub link: Link,
    /// Downloads.
    pub fetch: Fetch,
    /// Where releases come from.
    pub repository: Repository,
    /// Health messages.
    pub health: Health,
    /// The log.
    pub log: Log,
    /// Settings of single apps.
    pub apps: BTreeMap<AppName, App>,
}

/// `[first_boot]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FirstBoot {
    /// Where a node that has not joined looks for an invite token.
    pub files: Vec<PathBuf>,
}

/// `[store]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Store {
    /// The engine.
    pub engine: crate::store::Engine,
    /// Most bytes of events that wait for the coordinator.
    pub outbox_bytes_max: u64,
}

/// `[runner]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Runner {
    /// What runs apps whose release leaves it open.
    pub default: DefaultRunner,
    /// What happens to child processes when the agent stops.
    pub on_stop: OnStop,
}

/// `[runner] default`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DefaultRunner {
    /// systemd where it is the init system, else process.
    Auto,
    /// Children of the agent.
    Process,
    /// systemd units.
    Systemd,
}

/// `[runner] on_stop`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnStop {
    /// They are stopped.
    Stop,
    /// They go on; the next agent finds them.
    Leave,
}

/// `[link]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Link {
    /// Time between signs of life, in seconds.
    pub keepalive_secs: u64,
    /// Longest pause between attempts to connect, in seconds.
    pub backoff_max_secs: u64,
}

/// `[fetch]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Fetch {
    /// Time without a byte after which a download is cut, in seconds.
    pub stall_secs: u64,
    /// Longest pause between attempts, in seconds.
    pub backoff_max_secs: u64,
    /// Bytes that the agent keeps for itself, so that it can restore, record and report on a full disk.
    pub reserve_bytes: u64,
}

/// `[repository]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Repository {
    /// A static web server with an exported repository, asked before the coordinator.
    pub url: Option<String>,
    /// The authorities that may vouch for that server, in PEM; those of the system without it.
    pub ca_file: Option<PathBuf>,
    /// Time between two looks for newer metadata, in seconds.
    pub refresh_secs: u64,
}

/// `[health]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Health {
    /// Time between messages, in seconds.
    pub interval_secs: u64,
}

/// `[log]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// The least important line that is written.
    pub level: String,
}

/// `[apps.NAME]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct App {
    /// Variables above those of the release.
    pub env: BTreeMap<String, String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            state_dir: "/var/lib/orangery".into(),
            labels: BTreeMap::new(),
            first_boot: FirstBoot::default(),
            store: Store::default(),
            runner: Runner::default(),
            link: Link::default(),
            fetch: Fetch::default(),
            repository: Repository::default(),
            health: Health::default(),
            log: Log::default(),
            apps: BTreeMap::new(),
        }
    }
}

impl Default for Store {
    fn default() -> Self {
        Self { engine: crate::store::Engine::Redb, outbox_bytes_max: 4 << 20 }
    }
}

impl Default for Runner {
    fn default() -> Self {
        Self { default: DefaultRunner::Auto, on_stop: OnStop::Stop }
    }
}

impl Default for Link {
    fn default() -> Self {
        Self { keepalive_secs: 30, backoff_max_secs: 120 }
    }
}

impl Default for FirstBoot {
    fn default() -> Self {
        Self { files: ["/boot/firmware/orangery.toml", "/boot/orangery.toml"].map(PathBuf::from).to_vec() }
    }
}

impl Default for Fetch {
    fn default() -> Self {
        Self { stall_secs: 30, backoff_max_secs: 300, reserve_bytes: 8 << 20 }
    }
}

impl Default for Repository {
    fn default() -> Self {
        Self { url: None, ca_file: None, refresh_secs: 3_600 }
    }
}

impl Default for Health {
    fn default() -> Self {
        Self { interval_secs: 60 }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".into() }
    }
}

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// A file cannot be read.
    #[error("cannot read the settings in {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file is not TOML.
    #[error("{path} is not valid TOML: {reason}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and why.
        reason: String,
    },
    /// A key is unknown or a value is of the wrong kind.
    #[error("the settings in {path} cannot be used: {reason}")]
    Understand {
        /// The main file.
        path: PathBuf,
        /// Which key, and what is allowed.
        reason: String,
    },
    /// A value is out of its bounds.
    #[error("the settings in {path} cannot be used: {key} must be {rule}")]
    Bounds {
        /// The main file.
        path: PathBuf,
        /// The key.
        key: String,
        /// What is allowed.
        rule: &'static str,
    },
}

impl Settings {
    /// Reads `path` and `agent.d/*.toml` beside it. Without `path` the default file is read, which may be absent.
    pub fn load(path: Option<&Path>) -> Result<Self, SettingsError> {
        let main = path.unwrap_or(Path::new(DEFAULT_PATH));
        let mut merged = match read_table(main) {
            Err(SettingsError::Read { source, .. })
                if path.is_none() && source.kind() == std::io::ErrorKind::NotFound =>
            {
                toml::Table::new()
            }
            other => other?,
        };
        for file in drop_ins(main)? {
            lay_over(&mut merged, read_table(&file)?);
        }
        let settings: Self = merged.try_into().map_err(|e: toml::de::Error| SettingsError::Understand {
            path: main.to_owned(),
            reason: e.message().to_owned(),
        })?;
        settings.validate(main)?;
        Ok(settings.relative_to(main))
    }

    fn validate(&self, path: &Path) -> Result<(), SettingsError> {
        let within = |good: bool, key: &str, rule| {
            if good { Ok(()) } else { Err(SettingsError::Bounds { path: path.to_owned(), key: key.to_owned(), rule }) }
        };
        let day = 1..=limits::SECONDS_MAX;
        within((5..=3_600).contains(&self.link.keepalive_secs), "link.keepalive_secs", "5 to 3600")?;
        within(day.contains(&self.link.backoff_max_secs), "link.backoff_max_secs", "1 to 86400")?;
        within(day.contains(&self.fetch.stall_secs), "fetch.stall_secs", "1 to 86400")?;
        within(day.contains(&self.fetch.backoff_max_secs), "fetch.backoff_max_secs", "1 to 86400")?;
        within(day.contains(&self.repository.refresh_secs), "repository.refresh_secs", "1 to 86400")?;
        let address = self.repository.url.as_ref().is_none_or(|url| url.starts_with("https://"));
        within(address, "repository.url", "https://HOST[:PORT][/PATH]: nothing is fetched without TLS")?;
        within(day.contains(&self.health.interval_secs), "health.interval_secs", "1 to 86400")?;
        within(self.store.outbox_bytes_max >= 64 << 10, "store.outbox_bytes_max", "at least 65536")?;
        within(self.log_level().is_some(), "log.level", "error, warn, info, debug or trace")?;
        within(self.labels.len() <= limits::LABELS_MAX, "labels", "at most 32 labels")?;
        let label = |text: &String| !text.is_empty() && text.len() <= 63 && !text.contains(['=', '\n', ' ']);
        let labels = self.labels.iter().all(|(name, value)| label(name) && label(value));
        within(labels, "labels", "texts of 1 to 63 bytes without '=', spaces or line breaks")?;
        let variables = self.apps.values().flat_map(|app| app.env.iter());
        let variables = variables.map(|(name, value)| is_variable(name) && value.len() <= limits::TEXT_BYTES_MAX);
        within(
            variables.into_iter().all(|good| good),
            "apps.*.env",
            "names of A-Z, 0-9 and _ with values up to 4096 bytes",
        )
    }

    /// Relative paths are meant relative to the file that names them.
    fn relative_to(mut self, main: &Path) -> Self {
        if let Some(directory) = main.parent() {
            for path in std::iter::once(&mut self.state_dir)
                .chain(&mut self.repository.ca_file)
                .chain(&mut self.first_boot.files)
            {
                *path = directory.join(&*path);
            }
        }
        self
    }

    /// The log level.
    pub fn log_level(&self) -> Option<tracing::Level> {
        self.log.level.parse().ok().filter(|_| self.log.level.chars().all(char::is_alphabetic))
    }

    /// Time between health messages.
    pub fn health_interval(&self) -> Duration {
        Duration::from_secs(self.health.interval_secs)
    }

    /// The node's variables for `app`.
    pub fn variables(&self, app: &AppName) -> BTreeMap<String, String> {
        self.apps.get(app).map(|app| app.env.clone()).unwrap_or_default()
    }
}

fn read_table(path: &Path) -> Result<toml::Table, SettingsError> {
    let text = std::fs::read_to_string(path).map_err(|source| SettingsError::Read { path: path.to_owned(), source })?;
    text.parse().map_err(|e: toml::de::Error| SettingsError::Parse { path: path.to_owned(), reason: e.to_string() })
}

fn drop_ins(main: &Path) -> Result<Vec<PathBuf>, SettingsError> {
    let directory = main.with_extension("d");
    let entries = match std::fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(SettingsError::Read { path: directory, source }),
    };
    let mut files: Vec<PathBuf> =
        entries.flatten().map(|e| e.path()).filter(|p| p.extension().is_some_and(|x| x == "toml")).collect();
    files.sort();
    Ok(files)
}

fn lay_over(below: &mut toml::Table, above: toml::Table) {
    for (key, value) in above {
        match (below.get_mut(&key), value) {
            (Some(toml::Value::Table(below)), toml::Value::Table(above)) => lay_over(below, above),
            (_, value) => {
                below.insert(key, value);
            }
        }
    }
}

#[cfg(test)]
mod tests;
