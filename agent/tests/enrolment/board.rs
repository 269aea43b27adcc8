//! A board that joins, on a real disk.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use orangery_agent::clock::Clock;
use orangery_agent::disk::{Disk, RealDisk};
use orangery_agent::errors::chain;
use orangery_agent::identity::{self, Identity, IdentityError, JoinError, RenewError};
use orangery_agent::layout::Layout;
use orangery_wire::token::Token;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::SECRET;

/// A board's state directory.
pub struct Board {
    dir: tempfile::TempDir,
    pub layout: Layout,
    pub clock: Arc<Clock>,
}

impl Board {
    pub fn new() -> Self {
        // A system whose default is to let everybody read and write everything: modes must not depend on it.
        rustix::process::umask(rustix::fs::Mode::empty());
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path().join("state"));
        Self { dir, layout, clock: Clock::new(0) }
    }

    pub async fn join(&self, token: &Token) -> Result<Identity, JoinError> {
        identity::join(&RealDisk, &self.layout, token, Some("attic"), &self.clock).await
    }

    pub fn load(&self) -> Result<Option<Identity>, IdentityError> {
        identity::load(&RealDisk, &self.layout)
    }

    pub async fn renew(&self, identity: &Identity) -> Result<(), RenewError> {
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        identity::renew(&disk, &self.layout, identity, &self.clock).await
    }

    /// Every file below the state directory, with its mode and content, and every directory's mode.
    pub fn files(&self) -> Vec<(String, u32, Vec<u8>)> {
        let mut found = Vec::new();
        collect(self.dir.path(), self.dir.path(), &mut found);
        found.sort();
        found
    }

    pub fn names(&self) -> Vec<String> {
        self.files().into_iter().map(|(name, ..)| name).collect()
    }

    pub fn content(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.layout.identity().join(name)).unwrap()
    }
}

fn collect(root: &Path, dir: &Path, found: &mut Vec<(String, u32, Vec<u8>)>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let mode = path.metadata().unwrap().permissions().mode() & 0o7777;
        let name = path.strip_prefix(root).unwrap().display().to_string();
        if path.is_dir() {
            found.push((name, mode, Vec::new()));
            collect(root, &path, found);
        } else {
            found.push((name, mode, std::fs::read(&path).unwrap()));
        }
    }
}

/// The error as the operator reads it, which must never contain the secret.
pub fn told(error: &(dyn std::error::Error + 'static)) -> String {
    let text = chain(error);
    assert!(!text.contains(SECRET) && !format!("{error:?}").contains(SECRET), "{text}");
    text
}

pub fn first_certificate(pem: &[u8]) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem).unwrap()
}
