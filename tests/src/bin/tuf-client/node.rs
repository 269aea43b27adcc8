//! A node's trusted metadata below the directory that the suite looks into, and copies of it under the names that the suite
//! expects there.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, ensure};
use orangery_agent::clock::Clock;
use orangery_agent::disk::RealDisk;
use orangery_agent::fetch::{FetchError, Http};
use orangery_agent::tls;
use orangery_agent::trusted::{RefreshFailure, Source, Trusted};
use orangery_trust::{Found, role_file};
use orangery_wire::{Digest, UnixTime};

/// The agent's directory of trusted metadata.
const STATE: &str = ".state";
const TOP: [&str; 4] = ["root.json", "timestamp.json", "snapshot.json", "targets.json"];

/// Begins with a root, as a node does that has just joined.
pub fn init(metadata_dir: &Path, root: &Path) -> anyhow::Result<()> {
    let root = fs::read(root).with_context(|| format!("reading {}", root.display()))?;
    let state = metadata_dir.join(STATE);
    fs::create_dir_all(&state)?;
    for file in [state.join("1.root.json"), state.join("root.json"), metadata_dir.join("root.json")] {
        fs::write(file, &root)?;
    }
    Ok(())
}

/// A repository at any address.
struct Repository(Http);

impl Source for Repository {
    async fn metadata(&self, file: &str, length_max: u64) -> Result<Option<Vec<u8>>, FetchError> {
        self.0.get(&format!("/{file}"), length_max).await
    }
}

/// A node that knows its repository.
pub struct Node {
    metadata_dir: PathBuf,
    trusted: Trusted,
    repository: Repository,
}

impl Node {
    pub fn load(metadata_dir: &Path, metadata_url: &str) -> Self {
        let trusted = Trusted::load(Arc::new(RealDisk), metadata_dir.join(STATE), Clock::new(0));
        Self { metadata_dir: metadata_dir.to_owned(), trusted, repository: Repository(http(metadata_url)) }
    }

    pub async fn refresh(&mut self) -> anyhow::Result<()> {
        self.trusted.refresh(&self.repository, now()?).await.map_err(refused)
    }

    /// Refreshes, then has each target in `dir`, in this order.
    pub async fn download(&mut self, base_url: &str, dir: &Path, names: &[String]) -> anyhow::Result<()> {
        self.refresh().await?;
        let http = http(base_url);
        for name in names {
            let found = self.trusted.target(&self.repository, name, now()?).await.map_err(refused)?;
            fetch(&http, &found, dir).await.with_context(|| format!("downloading {name}"))?;
        }
        Ok(())
    }

    /// Shows the suite what is trusted, byte for byte, whether or not the command went well.
    pub fn show(&self) -> io::Result<()> {
        let state = self.metadata_dir.join(STATE);
        for name in TOP {
            let shown = self.metadata_dir.join(name);
            match fs::copy(state.join(name), &shown) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => remove(&shown)?,
                other => drop(other?),
            }
        }
        for name in list(&state.join("delegated"))? {
            let is_metadata = Path::new(&name).extension().is_some_and(|extension| extension == "json");
            // A delegated role may be called as one of the top is.
            if is_metadata && !TOP.iter().any(|top| name == **top) {
                fs::copy(state.join("delegated").join(&name), self.metadata_dir.join(&name))?;
            }
        }
        Ok(())
    }
}

/// Has the target in `dir`, verified. One that is there already is not fetched again.
async fn fetch(http: &Http, found: &Found, dir: &Path) -> anyhow::Result<()> {
    // Any path is the name of one file: quoted as a role's is.
    let file = dir.join(quoted(&found.path));
    if fs::read(&file).is_ok_and(|bytes| found.target.is(&bytes)) {
        return Ok(());
    }
    let path = found.file.split('/').map(quoted).collect::<Vec<_>>().join("/");
    let bytes = http.get(&format!("/{path}"), found.target.length).await?.context("it is not there")?;
    ensure!(found.target.is(&bytes), "it is not what was signed");
    let beside = file.with_extension("part");
    fs::write(&beside, bytes)?;
    fs::rename(&beside, &file)?;
    Ok(())
}

/// Percent-encoded, as the file of a role is.
fn quoted(name: &str) -> String {
    let file = role_file(name);
    file.strip_suffix(".json").unwrap_or(&file).to_owned()
}

/// A client that takes plain HTTP, and TLS from nobody.
fn http(url: &str) -> Http {
    Http::unprotected(url, tls::join_config(Digest([0; 32]), Clock::new(0)))
}

/// The machine's clock and nothing else: the suite turns it.
fn now() -> anyhow::Result<UnixTime> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())
}

fn refused(failure: RefreshFailure) -> anyhow::Error {
    anyhow::Error::msg(failure.reason.text)
}

fn remove(file: &Path) -> io::Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn list(dir: &Path) -> io::Result<Vec<OsString>> {
    match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        entries => entries?.map(|entry| entry.map(|entry| entry.file_name())).collect(),
    }
}
