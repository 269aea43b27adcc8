//! Who this node is: its key, its certificate, and the coordinator it belongs to.
//!
//! ```text
//! identity/node.key           PKCS#8, ECDSA on P-256; made here, never sent anywhere
//! identity/ca.pem             the coordinator's CA, the only one that this node believes
//! identity/node.pem           the certificate; the one file here that ever changes
//! identity/coordinator.json   name and addresses; written last, so without it the node has not joined
//! ```
//!
//! All have mode 0600 from the moment they are made, in a directory of mode 0700. A join that was cut anywhere is run again
//! and uses the key that is there. A renewed certificate is for the same key: one file changes, at once, and no moment
//! exists in which certificate and key do not belong together. A new key means joining again.

mod https;
mod join;
mod renew;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use orangery_wire::NodeId;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::disk::Disk;
use crate::layout::Layout;
use crate::tls::NodeCertificate;

pub use https::HttpsError;
pub(crate) use https::{PATIENCE, post};
pub use join::{JoinError, join, trust_first_root, trusts};
pub use renew::{RenewError, keep_fresh, renew};

const KEY: &str = "node.key";
const CERTIFICATE: &str = "node.pem";
const CA: &str = "ca.pem";
const COORDINATOR: &str = "coordinator.json";

const DIR_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// Largest file that is read here; real ones have about one KiB.
const FILE_BYTES_MAX: usize = 64 * 1024;

/// A node that has joined. Clones share the certificate, so that all see a renewed one.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The node's name, also in its certificate.
    pub node: NodeId,
    /// The coordinator's address, such as `https://192.168.1.10:8443`.
    pub url: String,
    /// The broker, as `host:port`.
    pub mqtt: String,
    certificate: Arc<NodeCertificate>,
    /// What certificates are asked for with.
    key: Arc<KeyPair>,
    renewal_asked: Arc<Notify>,
}

/// The node's identity is there but cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file cannot be read.
    #[error("cannot read {path}; restore it, or remove the directory and join again with a new token")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file is not what it should be, or the files do not belong together.
    #[error("cannot use {path}: {reason}; restore it, or remove the directory and join again with a new token")]
    Use {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

/// Content of `coordinator.json`.
#[derive(Debug, Serialize, Deserialize)]
struct Coordinator {
    format: u32,
    node: NodeId,
    url: String,
    mqtt: String,
}

/// The version of `coordinator.json` that this program writes.
const FORMAT: u32 = 1;

/// Reads the node's identity. `None` if it has not joined, or a join was cut. Reads only.
pub fn load(disk: &dyn Disk, layout: &Layout) -> Result<Option<Identity>, IdentityError> {
    let dir = layout.identity();
    let path = dir.join(COORDINATOR);
    let found = disk.stat(&path).map_err(|source| IdentityError::Read { path: path.clone(), source })?;
    if found.is_none() {
        return Ok(None);
    }
    let coordinator: Coordinator = serde_json::from_slice(&read(disk, &path)?).map_err(|e| unusable(&path, &e))?;
    if coordinator.format != FORMAT {
        return Err(unusable(&path, &format!("format {} is not {FORMAT}", coordinator.format)));
    }
    let [key_path, ca_path, certificate_path] = [KEY, CA, CERTIFICATE].map(|name| dir.join(name));
    let key = read_key(disk, &key_path)?;
    let ca = certificate(&read(disk, &ca_path)?).map_err(|reason| unusable(&ca_path, &reason))?;
    let own = certificate(&read(disk, &certificate_path)?).map_err(|reason| unusable(&certificate_path, &reason))?;
    let certificate = NodeCertificate::new(ca, der(&key), own).map_err(|e| unusable(&certificate_path, &e))?;
    Ok(Some(Identity::new(coordinator, certificate, key)))
}

impl Identity {
    fn new(coordinator: Coordinator, certificate: NodeCertificate, key: KeyPair) -> Self {
        Self {
            node: coordinator.node,
            url: coordinator.url,
            mqtt: coordinator.mqtt,
            certificate: Arc::new(certificate),
            key: Arc::new(key),
            renewal_asked: Arc::default(),
        }
    }

    /// The certificate with its key, for TLS.
    pub fn certificate(&self) -> Arc<NodeCertificate> {
        Arc::clone(&self.certificate)
    }

    /// The coordinator's CA.
    pub(crate) fn ca(&self) -> &CertificateDer<'static> {
        self.certificate.ca()
    }
}

fn read(disk: &dyn Disk, path: &Path) -> Result<Vec<u8>, IdentityError> {
    disk.read(path, FILE_BYTES_MAX).map_err(|source| IdentityError::Read { path: path.to_owned(), source })
}

fn read_key(disk: &dyn Disk, path: &Path) -> Result<KeyPair, IdentityError> {
    let bytes = read(disk, path)?;
    // What the parser says of a damaged key is not repeated: it might contain some of it.
    let unusable = || unusable(path, &"it is not a private key");
    KeyPair::from_pem(std::str::from_utf8(&bytes).map_err(|_| unusable())?).map_err(|_| unusable())
}

fn unusable(path: &Path, reason: &dyn std::fmt::Display) -> IdentityError {
    IdentityError::Use { path: path.to_owned(), reason: reason.to_string() }
}

/// The first certificate in PEM.
fn certificate(pem: &[u8]) -> Result<CertificateDer<'static>, String> {
    CertificateDer::from_pem_slice(pem).map_err(|error| error.to_string())
}

fn der(key: &KeyPair) -> PrivateKeyDer<'static> {
    PrivateKeyDer::Pkcs8(key.serialize_der().into())
}

/// A signing request (PKCS#10, PEM): proves that the node has the key. The name in it is for people; the coordinator decides.
fn signing_request(key: &KeyPair, name: &str) -> Result<String, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.serialize_request(key)?.pem()
}
