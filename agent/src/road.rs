//! The roads by which releases reach a node: a web server (the coordinator's or any other), a directory such as a USB
//! stick, or one file. A road only carries: whatever comes by it is judged by [`crate::trusted`] and [`crate::install`], the
//! same for all of them, and nothing that a road says is believed.

mod carried;
mod directory;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use orangery_wire::manifest::Pack;
use orangery_wire::messages::blob_path;
use orangery_wire::{AppName, Version};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde::{Deserialize, Serialize};

use crate::clock::Clock;
use crate::fetch::{FetchError, Http};
use crate::tls;
use crate::trusted::Source;
use carried::Carried;
use directory::Exported;

/// Where systems keep the authorities that they believe, unless a site has a `ca_file` of its own.
const SYSTEM_CA_FILES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
    "/etc/ssl/ca-bundle.pem",
];
/// Largest file of authorities that is read, in bytes.
const CA_FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Where somebody says that releases are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// A bundle, or the directory of an exported repository.
    Path(PathBuf),
    /// A static web server with an exported repository.
    Site {
        /// `https://HOST[:PORT][/PATH]`
        url: String,
        /// The authorities that may vouch for it, in PEM; those of the system without it.
        ca_file: Option<PathBuf>,
    },
}

/// Why a road cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum RoadError {
    /// Nothing can be read there.
    #[error("cannot open {}; is the stick mounted, and may the agent's user read it?", path.display())]
    Open {
        /// The path.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is not a bundle.
    #[error("{} is not a bundle: {rule}; make it again with `orangery bundle`", path.display())]
    NotABundle {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        rule: String,
    },
    /// The authorities of a site cannot be read.
    #[error("cannot use the certificates in {}: {reason}; name a file of certificates in PEM as `ca_file`", path.display())]
    ReadCa {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// No authorities are known.
    #[error("this system has no file of certificate authorities; name one as `ca_file`")]
    NoAuthorities,
    /// The address is not one.
    #[error(transparent)]
    Address(#[from] FetchError),
}

/// A road that is open.
#[expect(clippy::large_enum_variant, reason = "an agent has one or two of them")]
#[derive(Debug, Clone)]
pub enum Road {
    /// A web server.
    Web(Http),
    /// A directory, held by descriptor.
    Directory(Arc<Exported>),
    /// One file, held by descriptor.
    Bundle(Arc<Carried>),
}

impl From<Http> for Road {
    fn from(http: Http) -> Self {
        Self::Web(http)
    }
}

impl Road {
    /// Opens the road to `place`. Blocking, but asks no network. `clock` judges the certificates of a site.
    pub fn open(place: &Place, clock: &Arc<Clock>) -> Result<Self, RoadError> {
        match place {
            Place::Path(path) => Self::open_path(path),
            Place::Site { url, ca_file } => site(url, ca_file.as_deref(), clock).map(Self::Web),
        }
    }

    fn open_path(path: &Path) -> Result<Self, RoadError> {
        let open = |source| RoadError::Open { path: path.to_owned(), source };
        if std::fs::metadata(path).map_err(open)?.is_dir() {
            return Exported::open(path).map(|directory| Self::Directory(directory.into())).map_err(open);
        }
        Carried::open(path).map(|bundle| Self::Bundle(bundle.into()))
    }

    /// The whole of a small file, by its path in a repository such as `/metadata/timestamp.json`; `None` if there is none.
    /// One of more than `length_max` bytes is [`FetchError::TooLong`]. May be repeated freely.
    pub async fn get(&self, path: &str, length_max: u64) -> Result<Option<Vec<u8>>, FetchError> {
        match self {
            Self::Web(http) => http.get(path, length_max).await,
            Self::Directory(directory) => directory.get(path, length_max).await,
            Self::Bundle(bundle) => bundle.get(path, length_max).await,
        }
    }

    /// Has `pack` in the file `part`, verified, and returns that file at its beginning; as [`Http::download`].
    pub async fn pack(&self, pack: &Pack, part: &Path) -> Result<File, FetchError> {
        let path = blob_path(&pack.digest);
        match self {
            Self::Web(http) => http.download(&path, &pack.digest, pack.size_bytes, part).await,
            Self::Directory(directory) => directory.pack(&path, pack, part).await,
            Self::Bundle(bundle) => bundle.pack(&path, pack, part).await,
        }
    }

    /// The releases that it claims to have, as far as it can list them; a web server cannot. For people to choose from:
    /// nothing of it is verified. Blocking.
    pub fn claims(&self) -> Vec<(AppName, Version)> {
        match self {
            Self::Web(_) => Vec::new(),
            Self::Directory(directory) => directory.claims(),
            Self::Bundle(bundle) => bundle.claims(),
        }
    }
}

impl Source for Road {
    async fn metadata(&self, file: &str, length_max: u64) -> Result<Option<Vec<u8>>, FetchError> {
        self.get(&format!("/metadata/{file}"), length_max).await
    }
}

impl std::fmt::Display for Road {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Web(http) => f.write_str(http.base()),
            Self::Directory(directory) => directory.place().display().fmt(f),
            Self::Bundle(bundle) => bundle.place().display().fmt(f),
        }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Path(path) => path.display().fmt(f),
            Self::Site { url, .. } => f.write_str(url),
        }
    }
}

/// A client of a static web server. It is shown no certificate: whoever it is, the node's name is none of its business.
pub fn site(url: &str, ca_file: Option<&Path>, clock: &Arc<Clock>) -> Result<Http, RoadError> {
    let system = || SYSTEM_CA_FILES.into_iter().map(Path::new).find(|path| path.is_file());
    let path = ca_file.or_else(system).ok_or(RoadError::NoAuthorities)?;
    let unusable = |reason: String| RoadError::ReadCa { path: path.to_owned(), reason };
    let length = std::fs::metadata(path).map_err(|e| unusable(e.to_string()))?.len();
    if length > CA_FILE_BYTES_MAX {
        return Err(unusable(format!("it has {length} bytes, and at most {CA_FILE_BYTES_MAX} are read")));
    }
    let certificates = CertificateDer::pem_file_iter(path).map_err(|e| unusable(e.to_string()))?;
    let certificates: Result<Vec<_>, _> = certificates.collect();
    let config = tls::site_config(certificates.map_err(|e| unusable(e.to_string()))?, clock.clone());
    let config = config.ok_or_else(|| unusable("there is no certificate of an authority in it".to_owned()))?;
    Ok(Http::site(url, config)?)
}

/// The release whose manifest lies at this path of a repository: `targets/APP/VERSION/SHA256.manifest.json`.
fn claim(path: &str) -> Option<(AppName, Version)> {
    let mut parts = path.strip_prefix("targets/")?.split('/');
    let (app, version, file) = (parts.next()?, parts.next()?, parts.next()?);
    file.ends_with(".manifest.json").then_some(())?;
    Some((app.parse().ok()?, version.parse().ok()?))
}
