//! Writes a backup.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use tar::{Builder, Header};

use super::{BackupError, FORMAT, HEAD, Head, SUMS, Summary, read_failed, write_failed};
use crate::config::Config;
use crate::durable::sync_directory;
use crate::output;
use crate::release::hashing::Hashing;
use crate::store::Reader;

/// What will be written.
#[derive(Debug)]
pub struct Plan {
    directory: PathBuf,
    database: PathBuf,
    files: Vec<PathBuf>,
    artifacts: bool,
    /// Bytes of all files as they are now.
    pub bytes: u64,
}

/// Looks what there is to be kept of the coordinator with these settings. `artifacts`: also what releases consist of, which the
/// owner can push again.
pub fn plan(settings: &Path, artifacts: bool) -> Result<Plan, BackupError> {
    let settings = settings.canonicalize().map_err(read_failed(settings))?;
    let config = Config::load(&settings)?;
    let directory = settings.parent().unwrap_or(Path::new("/")).to_owned();
    let keys = &config.keys;
    let named = [&keys.ca, &keys.ca_key, &keys.server, &keys.server_key, &keys.link, &keys.link_key];
    let also = [&keys.snapshot_key, &keys.timestamp_key, &keys.operator_token_sha256, &config.state_dir];
    for path in named.into_iter().chain(also) {
        let found = path.canonicalize().map_err(read_failed(path))?;
        if !found.starts_with(&directory) {
            return Err(BackupError::Elsewhere { path: path.clone(), directory });
        }
    }
    let state = config.state_dir.canonicalize().map_err(read_failed(&config.state_dir))?;
    let (database, blobs) = (state.join("coordinator.db"), state.join("blobs"));
    let mut found = Plan { directory, database, files: Vec::new(), artifacts, bytes: 0 };
    let timestamp = state.join("metadata/timestamp.json");
    found.walk(&found.directory.clone(), &|path| artifacts || path != blobs)?;
    found.files.sort_by_key(|path| (*path != timestamp, path.clone()));
    found.bytes += std::fs::metadata(&found.database).map_err(read_failed(&found.database))?.len();
    Ok(found)
}

impl Plan {
    fn walk(&mut self, directory: &Path, wanted: &dyn Fn(&Path) -> bool) -> Result<(), BackupError> {
        for entry in std::fs::read_dir(directory).map_err(read_failed(directory))? {
            let entry = entry.map_err(read_failed(directory))?;
            let (path, name) = (entry.path(), entry.file_name());
            // What begins with a dot is being written; of the database there is a copy of its own.
            let passing = name.as_encoded_bytes().starts_with(b".") || name == "lock" || self.is_of_database(&path);
            if passing || !wanted(&path) {
                continue;
            }
            let metadata = match entry.metadata() {
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                found => found.map_err(read_failed(&path))?,
            };
            if metadata.is_dir() {
                self.walk(&path, wanted)?;
            } else if metadata.is_file() {
                self.bytes += metadata.len();
                self.files.push(path);
            } else {
                return Err(BackupError::Strange { path });
            }
        }
        Ok(())
    }

    /// The file, its log and its index.
    fn is_of_database(&self, path: &Path) -> bool {
        path.to_str().zip(self.database.to_str()).is_some_and(|(path, database)| path.starts_with(database))
    }

    /// Writes the backup to `out`, which must not be there, and calls `progress` with the bytes of each piece. Returns when it is on the
    /// disk; until then there is nothing of that name.
    pub fn write(&self, out: &Path, progress: &dyn Fn(u64)) -> Result<Summary, BackupError> {
        let out = std::path::absolute(out).map_err(write_failed(out))?;
        let refused = |reason| BackupError::Place { path: out.clone(), reason };
        if out.exists() {
            return Err(refused("it is there already, and backups are never overwritten"));
        }
        let (Some(directory), Some(name)) = (out.parent(), out.file_name()) else {
            return Err(refused("that is not the path of a file"));
        };
        if directory.canonicalize().map_err(write_failed(directory))?.starts_with(&self.directory) {
            return Err(refused(
                "it would become a part of the next backup; choose a place outside the coordinator's directory",
            ));
        }
        let beside = directory.join(format!(".{}.new", name.to_string_lossy()));
        let written = self.write_beside(&beside, directory, progress).and_then(|summary| {
            std::fs::rename(&beside, &out).and_then(|()| sync_directory(directory)).map_err(write_failed(&out))?;
            Ok(summary)
        });
        if written.is_err() {
            let _ = std::fs::remove_file(&beside);
        }
        written
    }

    fn write_beside(&self, beside: &Path, directory: &Path, progress: &dyn Fn(u64)) -> Result<Summary, BackupError> {
        let database = tempfile::Builder::new().prefix(".orangery-db-").tempdir_in(directory);
        let database = database.map_err(write_failed(directory))?;
        let copy = database.path().join("coordinator.db");
        Reader::open(&self.database)?.copy_to(&copy)?;
        // Truncated only if it is ours: a backup that was cut short left it.
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(beside);
        let file = file.map_err(write_failed(beside))?;
        let head = Head {
            format: FORMAT,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            made_at: output::now(),
            artifacts: self.artifacts,
        };
        let mut archive = Archive { tar: Builder::new(file), sums: String::new(), files: 0, bytes: 0, progress };
        let wrote = |result: io::Result<()>| result.map_err(write_failed(beside));
        wrote(archive.text(HEAD, &(serde_json::to_string_pretty(&head).unwrap_or_default() + "\n")))?;
        archive.file(&self.relative(&self.database), &copy)?;
        for path in &self.files {
            archive.file(&self.relative(path), path)?;
        }
        let (sums, files, bytes) = (std::mem::take(&mut archive.sums), archive.files, archive.bytes);
        wrote(archive.text(SUMS, &sums))?;
        wrote(archive.tar.into_inner().and_then(|mut file| file.flush().and_then(|()| file.sync_all())))?;
        Ok(Summary { head, files, bytes })
    }

    fn relative(&self, path: &Path) -> PathBuf {
        path.strip_prefix(&self.directory).unwrap_or(path).to_owned()
    }
}

struct Archive<'p> {
    tar: Builder<File>,
    sums: String,
    files: u64,
    bytes: u64,
    progress: &'p dyn Fn(u64),
}

impl Archive<'_> {
    fn text(&mut self, name: &str, text: &str) -> io::Result<()> {
        let mut header = Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o600);
        self.tar.append_data(&mut header, name, text.as_bytes())
    }

    /// Adds a file. One that is gone meanwhile was old metadata.
    fn file(&mut self, name: &Path, path: &Path) -> Result<(), BackupError> {
        let file = match File::open(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            opened => opened.map_err(read_failed(path))?,
        };
        let metadata = file.metadata().map_err(read_failed(path))?;
        let mut header = Header::new_gnu();
        header.set_size(metadata.len());
        header.set_mode(metadata.permissions().mode() & 0o777);
        header.set_mtime(0);
        let mut content = Hashing::new(file.take(metadata.len()));
        self.tar.append_data(&mut header, name, &mut content).map_err(read_failed(path))?;
        let (digest, bytes) = content.finish();
        if bytes != metadata.len() {
            let source = io::Error::new(ErrorKind::UnexpectedEof, "it became shorter while it was read");
            return Err(BackupError::Read { path: path.to_owned(), source });
        }
        // Writing to a String cannot fail.
        let _ = writeln!(self.sums, "{digest}  {}", name.display());
        (self.files, self.bytes) = (self.files + 1, self.bytes + bytes);
        (self.progress)(bytes);
        Ok(())
    }
}
