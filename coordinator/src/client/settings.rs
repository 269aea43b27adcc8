//! `client.toml`: where the coordinator is and how one proves to be its operator. `orangery init` writes it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde::Deserialize;

use crate::home::Home;

/// How the coordinator is reached.
pub struct ClientSettings {
    /// The file itself.
    pub path: PathBuf,
    /// `https://HOST:PORT`
    pub url: String,
    /// The certificate of the coordinator's CA.
    pub ca: PathBuf,
    /// The file that holds the operator's token.
    pub token_file: PathBuf,
    /// The operator's token.
    pub(super) token: String,
}

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// There are none.
    #[error("{path} does not exist; make it with `orangery init`, or name another directory with --dir")]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// A file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not understood.
    #[error("{path} cannot be used: {reason}")]
    Understand {
        /// The file.
        path: PathBuf,
        /// Where and why.
        reason: String,
    },
    /// TLS cannot be set up.
    #[error("cannot set up TLS: {reason}")]
    Tls {
        /// Why.
        reason: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    url: String,
    ca: PathBuf,
    token_file: PathBuf,
}

impl ClientSettings {
    /// Reads `client.toml` and the token beside it.
    pub fn load(home: &Home) -> Result<Self, SettingsError> {
        let path = home.client_settings();
        let text = read(&path)?;
        let not_understood = |reason: String| SettingsError::Understand { path: path.clone(), reason };
        let written: Written = toml::from_str(&text).map_err(|e| not_understood(e.to_string()))?;
        let url = written.url.trim_end_matches('/').to_owned();
        if !url.starts_with("https://") {
            return Err(not_understood(format!("url is {url:?}; it must begin with https://")));
        }
        let token_file = home.root().join(written.token_file);
        let token = read(&token_file)?.trim().to_owned();
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(SettingsError::Understand { path: token_file, reason: "it does not hold a token".into() });
        }
        Ok(Self { ca: home.root().join(written.ca), path, url, token_file, token })
    }

    /// The text of `client.toml` for a coordinator at `url`.
    pub fn text(url: &str) -> String {
        format!(
            "# How the `orangery` commands reach the coordinator. Paths are relative to this file.\n\
             url = \"{url}\"\n\
             # The coordinator's certificate authority; no other is trusted.\n\
             ca = \"coordinator/ca.pem\"\n\
             # Whoever has this token commands the fleet.\n\
             token_file = \"operator.token\"\n"
        )
    }

    /// TLS 1.3 to a server whose certificate comes from the coordinator's CA, and from no other.
    pub(super) fn tls(&self) -> Result<rustls::ClientConfig, SettingsError> {
        let not_understood = |reason: String| SettingsError::Understand { path: self.ca.clone(), reason };
        let pem = read(&self.ca)?;
        let ca = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|e| not_understood(e.to_string()))?;
        let mut roots = RootCertStore::empty();
        roots.add(ca).map_err(|e| not_understood(e.to_string()))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|e| SettingsError::Tls { reason: e.to_string() })?;
        Ok(config.with_root_certificates(roots).with_no_client_auth())
    }
}

fn read(path: &Path) -> Result<String, SettingsError> {
    std::fs::read_to_string(path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => SettingsError::Missing { path: path.to_owned() },
        _ => SettingsError::Read { path: path.to_owned(), source },
    })
}
