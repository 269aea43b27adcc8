//! The coordinator's settings: `coordinator.toml`.
//!
//! What is written and what is valid are two types: TOML is read with unknown keys refused, then checked, and every path
//! becomes one that does not depend on where the program was started.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;

mod address;
mod error;

pub(crate) use address::is_host_and_port;
use address::is_origin;
pub use address::with_port;
pub use error::ConfigError;

use crate::audit::{KEPT_MAX, Kept};
use crate::nearest::suggestion;
use crate::{home_assistant, notify};

/// Most bytes of one artifact, unless the settings say otherwise: 4 GiB.
pub const BLOB_BYTES_MAX: u64 = 4 << 30;
/// Events that are kept, unless the settings say otherwise.
pub const EVENTS_KEPT_MAX: u64 = 1_000_000;
/// Open HTTPS connections, unless the settings say otherwise.
pub const CONNECTIONS_MAX: usize = 4_096;
/// Most addresses at which browsers reach the coordinator beside its own.
const PUBLIC_URLS_MAX: usize = 16;

/// Valid settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The directory that holds the database, artifacts and metadata. Absolute if the file's own path was.
    pub state_dir: PathBuf,
    /// The HTTPS listener.
    pub https: Https,
    /// The broker.
    pub mqtt: Mqtt,
    /// Keys and certificates.
    pub keys: Keys,
    /// Bounds.
    pub limits: Limits,
    /// Whom to tell what happens.
    pub notify: notify::Settings,
    /// The house's broker, if there is one with a Home Assistant behind it.
    pub home_assistant: Option<home_assistant::Settings>,
}

/// `[https]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Https {
    /// The address that is listened on. Port 0 is any free port.
    pub listen: SocketAddr,
    /// How nodes and operators reach it: `https://HOST:PORT`, without a path. Port 0 stands for the port that was bound.
    pub url: String,
    /// Where browsers reach it as well, through whatever stands before it: `https://HOST` or `https://HOST:PORT`.
    pub public_urls: Vec<String>,
}

/// `[mqtt]`: the embedded broker, or another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mqtt {
    /// The coordinator is its own broker.
    Embedded {
        /// The address that is listened on. Port 0 is any free port.
        listen: SocketAddr,
        /// How nodes reach it: `HOST:PORT`. Port 0 stands for the port that was bound.
        advertise: String,
    },
    /// Nodes and the coordinator meet at a broker that somebody else runs, with certificates of our CA.
    External {
        /// `HOST:PORT`
        address: String,
    },
}

/// `[keys]`: files beside `coordinator.toml` unless it says otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys {
    /// The CA's certificate.
    pub ca: PathBuf,
    /// The CA's key.
    pub ca_key: PathBuf,
    /// The certificate of the HTTPS and MQTT listeners.
    pub server: PathBuf,
    /// Its key.
    pub server_key: PathBuf,
    /// The certificate by which the coordinator is a client of the broker.
    pub link: PathBuf,
    /// Its key.
    pub link_key: PathBuf,
    /// The key that signs snapshots.
    pub snapshot_key: PathBuf,
    /// The key that signs timestamps.
    pub timestamp_key: PathBuf,
    /// SHA-256 of the operator's token, in hexadecimal digits.
    pub operator_token_sha256: PathBuf,
    /// The same of the token for metrics; there need not be one.
    pub metrics_token_sha256: PathBuf,
}

/// `[limits]`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most bytes of one artifact.
    pub blob_bytes_max: u64,
    /// Events that are kept; older ones are deleted.
    pub events_kept_max: u64,
    /// Open HTTPS connections.
    pub connections_max: usize,
    /// Entries of the audit log that are kept, and for how long.
    pub audit_kept: Kept,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default = "default_state_dir")]
    state_dir: PathBuf,
    https: WrittenHttps,
    mqtt: WrittenMqtt,
    #[serde(default)]
    keys: WrittenKeys,
    #[serde(default)]
    limits: WrittenLimits,
    #[serde(default)]
    watch: notify::WrittenWatch,
    #[serde(default)]
    notify: Vec<notify::Written>,
    home_assistant: Option<home_assistant::Written>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenHttps {
    listen: SocketAddr,
    url: String,
    #[serde(default)]
    public_urls: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenMqtt {
    listen: Option<SocketAddr>,
    advertise: Option<String>,
    url: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct WrittenKeys {
    ca: PathBuf,
    ca_key: PathBuf,
    server: PathBuf,
    server_key: PathBuf,
    link: PathBuf,
    link_key: PathBuf,
    snapshot_key: PathBuf,
    timestamp_key: PathBuf,
    operator_token_sha256: PathBuf,
    metrics_token_sha256: PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(clippy::struct_field_names, reason = "they are the keys of the file, and all of them are upper bounds")]
struct WrittenLimits {
    blob_bytes_max: u64,
    events_kept_max: u64,
    connections_max: usize,
    audit_kept_max: u64,
    audit_kept_days_max: u64,
}

impl Default for WrittenKeys {
    fn default() -> Self {
        Self {
            ca: "ca.pem".into(),
            ca_key: "ca.key".into(),
            server: "server.pem".into(),
            server_key: "server.key".into(),
            link: "link.pem".into(),
            link_key: "link.key".into(),
            snapshot_key: "snapshot.key".into(),
            timestamp_key: "timestamp.key".into(),
            operator_token_sha256: "operator.token.sha256".into(),
            metrics_token_sha256: "metrics.token.sha256".into(),
        }
    }
}

impl Default for WrittenLimits {
    fn default() -> Self {
        Self {
            blob_bytes_max: BLOB_BYTES_MAX,
            events_kept_max: EVENTS_KEPT_MAX,
            connections_max: CONNECTIONS_MAX,
            audit_kept_max: KEPT_MAX,
            audit_kept_days_max: 0,
        }
    }
}

fn default_state_dir() -> PathBuf {
    "state".into()
}

impl Config {
    /// Reads and checks the settings. Paths in them are relative to the file.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text =
            std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        Self::parse(&text, path)
    }

    /// Checks settings that were read from `path`.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let written: Written = toml::from_str(text).map_err(|error| ConfigError::Parse {
            path: path.to_owned(),
            meant: suggestion(error.message()).map(str::to_owned),
            reason: notify::without_secrets(&error.to_string()),
        })?;
        let directory = path.parent().unwrap_or(Path::new(""));
        let check = Check { path };
        let notify = notify::Settings::check(&written.watch, written.notify, directory);
        let notify = notify.map_err(|(place, rule)| ConfigError::Notify { path: path.to_owned(), place, rule })?;
        let home_assistant = written.home_assistant.map(|written| home_assistant::Settings::check(written, directory));
        let home_assistant =
            home_assistant.transpose().or_else(|(key, value, rule)| check.invalid(key, &value, rule))?;
        Ok(Self {
            state_dir: directory.join(written.state_dir),
            https: check.https(&written.https)?,
            mqtt: check.mqtt(written.mqtt)?,
            keys: written.keys.below(directory),
            limits: check.limits(&written.limits)?,
            notify,
            home_assistant,
        })
    }

    /// The database.
    pub fn database(&self) -> PathBuf {
        self.state_dir.join("coordinator.db")
    }

    /// Artifacts, by digest.
    pub fn blobs(&self) -> PathBuf {
        self.state_dir.join("blobs")
    }

    /// TUF metadata. `orangery init` puts `1.root.json` there.
    pub fn metadata(&self) -> PathBuf {
        self.state_dir.join("metadata")
    }

    /// TUF target files: the manifests.
    pub fn targets(&self) -> PathBuf {
        self.state_dir.join("targets")
    }
}

struct Check<'a> {
    path: &'a Path,
}

impl Check<'_> {
    fn invalid<T>(&self, key: &'static str, value: &str, rule: &'static str) -> Result<T, ConfigError> {
        Err(ConfigError::Invalid { path: self.path.to_owned(), key, value: value.to_owned(), rule })
    }

    fn https(&self, written: &WrittenHttps) -> Result<Https, ConfigError> {
        let url = written.url.trim_end_matches('/');
        if !url.strip_prefix("https://").is_some_and(is_host_and_port) {
            return self.invalid("https.url", &written.url, "use https://HOST:PORT, without a path");
        }
        let public_urls: Vec<String> =
            written.public_urls.iter().map(|url| url.trim_end_matches('/').to_owned()).collect();
        if let Some(bad) = public_urls.iter().find(|url| !is_origin(url)) {
            return self.invalid("https.public_urls", bad, "use https://HOST or https://HOST:PORT, without a path");
        }
        if public_urls.len() > PUBLIC_URLS_MAX {
            return self.invalid("https.public_urls", &public_urls.len().to_string(), "give at most 16");
        }
        Ok(Https { listen: written.listen, url: url.to_owned(), public_urls })
    }

    fn mqtt(&self, written: WrittenMqtt) -> Result<Mqtt, ConfigError> {
        match (written.listen, written.advertise, written.url) {
            (Some(listen), Some(advertise), None) => {
                if !is_host_and_port(&advertise) {
                    return self.invalid("mqtt.advertise", &advertise, "use HOST:PORT");
                }
                Ok(Mqtt::Embedded { listen, advertise })
            }
            (None, None, Some(url)) => match url.strip_prefix("mqtts://") {
                Some(address) if is_host_and_port(address) => Ok(Mqtt::External { address: address.to_owned() }),
                _ => self.invalid("mqtt.url", &url, "use mqtts://HOST:PORT; without TLS nobody would know who is who"),
            },
            (_, _, url) => self.invalid(
                "mqtt",
                url.as_deref().unwrap_or_default(),
                "give either listen and advertise (the embedded broker) or url (another broker)",
            ),
        }
    }

    fn limits(&self, written: &WrittenLimits) -> Result<Limits, ConfigError> {
        let WrittenLimits { blob_bytes_max, events_kept_max, connections_max, audit_kept_max, audit_kept_days_max } =
            *written;
        if blob_bytes_max == 0 || blob_bytes_max > orangery_wire::limits::TREE_BYTES_MAX {
            return self.invalid("limits.blob_bytes_max", &blob_bytes_max.to_string(), "use 1 to 17179869184 (16 GiB)");
        }
        if !(1_000..=1_000_000_000).contains(&events_kept_max) {
            return self.invalid("limits.events_kept_max", &events_kept_max.to_string(), "use 1000 to 1000000000");
        }
        if !(16..=100_000).contains(&connections_max) {
            return self.invalid("limits.connections_max", &connections_max.to_string(), "use 16 to 100000");
        }
        if !(1_000..=10_000_000).contains(&audit_kept_max) {
            return self.invalid("limits.audit_kept_max", &audit_kept_max.to_string(), "use 1000 to 10000000");
        }
        if audit_kept_days_max > 36_500 {
            let rule = "use 1 to 36500, or 0 to keep entries whatever their age";
            return self.invalid("limits.audit_kept_days_max", &audit_kept_days_max.to_string(), rule);
        }
        let secs = (audit_kept_days_max > 0).then(|| audit_kept_days_max * 86_400);
        let audit_kept = Kept { entries_max: audit_kept_max, secs };
        Ok(Limits { blob_bytes_max, events_kept_max, connections_max, audit_kept })
    }
}

impl WrittenKeys {
    fn below(self, directory: &Path) -> Keys {
        Keys {
            ca: directory.join(self.ca),
            ca_key: directory.join(self.ca_key),
            server: directory.join(self.server),
            server_key: directory.join(self.server_key),
            link: directory.join(self.link),
            link_key: directory.join(self.link_key),
            snapshot_key: directory.join(self.snapshot_key),
            timestamp_key: directory.join(self.timestamp_key),
            operator_token_sha256: directory.join(self.operator_token_sha256),
            metrics_token_sha256: directory.join(self.metrics_token_sha256),
        }
    }
}

#[cfg(test)]
#[path = "config/tests.rs"]
mod tests;
