//! `[home_assistant]` in `coordinator.toml`: what is written, what of it is sound, and what is read when the coordinator starts.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use orangery_wire::UserName;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde::Deserialize;

use crate::config::is_host_and_port;
use crate::notify::{Secret, Source};

/// Longest discovery prefix, base topic, birth topic and user name, in bytes.
const WORD_BYTES_MAX: usize = 64;

/// Where the house's broker is, and who commands are from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The broker: `HOST:PORT`.
    pub broker: String,
    /// Whether it is spoken to by TLS.
    pub has_tls: bool,
    /// Believe the authorities in this file alone, in place of the system's.
    pub ca_file: Option<PathBuf>,
    /// User and password at the broker.
    pub login: Option<(String, Source)>,
    /// Where Home Assistant looks for descriptions.
    pub discovery_prefix: String,
    /// Below which this coordinator's topics are; no other coordinator may have the same at this broker.
    pub base_topic: String,
    /// Where Home Assistant says that it has come up.
    pub birth_topic: String,
    /// The user of Orangery as whom commands are done.
    pub acts_as: UserName,
}

/// `[home_assistant]`, as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Written {
    url: String,
    user: Option<String>,
    password: Option<Source>,
    ca_file: Option<PathBuf>,
    #[serde(default = "homeassistant")]
    discovery_prefix: String,
    #[serde(default = "orangery")]
    base_topic: String,
    birth_topic: Option<String>,
    #[serde(default = "home_assistant")]
    acts_as: String,
}

fn homeassistant() -> String {
    "homeassistant".to_owned()
}

fn orangery() -> String {
    "orangery".to_owned()
}

fn home_assistant() -> String {
    "home-assistant".to_owned()
}

/// What the settings name cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HomeAssistantError {
    /// The password.
    #[error("cannot use the password of [home_assistant]: {reason}")]
    Password {
        /// Why.
        reason: String,
    },
    /// The certificate authorities.
    #[error("cannot use the authorities in {}, which [home_assistant] names: {reason}", path.display())]
    Authorities {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// TLS itself.
    #[error("cannot speak TLS to the broker of [home_assistant]: {reason}")]
    Tls {
        /// Why.
        reason: String,
    },
}

impl Settings {
    /// Checks what is written; paths become ones below `directory`. An error names the key, its value and the rule.
    pub fn check(written: Written, directory: &Path) -> Result<Self, (&'static str, String, &'static str)> {
        let (scheme, broker) = written.url.split_once("://").unwrap_or_default();
        let has_tls = scheme == "mqtts";
        if !(has_tls || scheme == "mqtt") || !is_host_and_port(broker) {
            let rule = "use mqtt://HOST:PORT or mqtts://HOST:PORT; user and password have keys of their own";
            // There may be a password before it.
            let shown = written.url.rsplit_once('@').map_or(written.url.clone(), |(_, host)| format!("...@{host}"));
            return Err(("home_assistant.url", shown, rule));
        }
        if written.ca_file.is_some() && !has_tls {
            return Err((
                "home_assistant.ca_file",
                written.url,
                "it belongs to mqtts://; nothing is checked without TLS",
            ));
        }
        let login = match (written.user, written.password) {
            (None, None) => None,
            (Some(user), Some(password)) if is_user(&user) => Some((user, password.below(directory))),
            (Some(user), Some(_)) => return Err(("home_assistant.user", user, "use 1 to 64 visible characters")),
            (user, _) => {
                return Err(("home_assistant.user", user.unwrap_or_default(), "user and password come together"));
            }
        };
        let birth_topic = written.birth_topic.unwrap_or_else(|| format!("{}/status", written.discovery_prefix));
        let topic_rule = "use words of a-z, A-Z, 0-9, '-' and '_' with '/' between them, 64 bytes at most";
        let base_rule = "use words of a-z, 0-9 and '-' with '/' between them, 64 bytes at most";
        let letter = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if !is_topic(&written.discovery_prefix, letter) {
            return Err(("home_assistant.discovery_prefix", written.discovery_prefix, topic_rule));
        }
        if !is_topic(&birth_topic, letter) {
            return Err(("home_assistant.birth_topic", birth_topic, topic_rule));
        }
        if !is_topic(&written.base_topic, plain) || written.base_topic == written.discovery_prefix {
            return Err(("home_assistant.base_topic", written.base_topic, base_rule));
        }
        let Ok(acts_as) = written.acts_as.parse() else {
            return Err(("home_assistant.acts_as", written.acts_as, "name a user: see `orangery user list`"));
        };
        Ok(Self {
            broker: broker.to_owned(),
            has_tls,
            ca_file: written.ca_file.map(|path| directory.join(path)),
            login,
            discovery_prefix: written.discovery_prefix,
            base_topic: written.base_topic,
            birth_topic,
            acts_as,
        })
    }

    /// User and password, read from where they are.
    pub(super) fn read_login(&self) -> Result<Option<(String, Secret)>, HomeAssistantError> {
        let Some((user, password)) = &self.login else { return Ok(None) };
        let password = password.read().map_err(|reason| HomeAssistantError::Password { reason })?;
        Ok(Some((user.clone(), password)))
    }

    /// How the broker is spoken to, if by TLS: 1.2 and 1.3, for it is not ours.
    pub(super) fn tls(&self) -> Result<Option<Arc<ClientConfig>>, HomeAssistantError> {
        if !self.has_tls {
            return Ok(None);
        }
        let certificates = match &self.ca_file {
            Some(path) => authorities(path)?,
            None => rustls_native_certs::load_native_certs().certs,
        };
        let mut roots = RootCertStore::empty();
        let (added, _) = roots.add_parsable_certificates(certificates);
        if added == 0 {
            let reason = "this machine knows no certificate authorities: install ca-certificates, or name ca_file";
            return Err(HomeAssistantError::Tls { reason: reason.to_owned() });
        }
        let provider = rustls::crypto::ring::default_provider();
        let builder = ClientConfig::builder_with_provider(provider.into()).with_safe_default_protocol_versions();
        let builder = builder.map_err(|error| HomeAssistantError::Tls { reason: error.to_string() })?;
        Ok(Some(Arc::new(builder.with_root_certificates(roots).with_no_client_auth())))
    }
}

fn authorities(path: &Path) -> Result<Vec<CertificateDer<'static>>, HomeAssistantError> {
    let unusable = |reason: String| HomeAssistantError::Authorities { path: path.to_owned(), reason };
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read {
        Ok(read) if read.is_empty() => Err(unusable("it has no certificate in PEM".to_owned())),
        Ok(read) => Ok(read),
        Err(error) => Err(unusable(error.to_string())),
    }
}

fn is_user(text: &str) -> bool {
    !text.is_empty() && text.len() <= WORD_BYTES_MAX && !text.chars().any(char::is_control)
}

fn is_topic(text: &str, allows: impl Fn(u8) -> bool) -> bool {
    text.len() <= WORD_BYTES_MAX && text.split('/').all(|word| !word.is_empty() && word.bytes().all(&allows))
}
