//! Puts a backup back where no coordinator is.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Component, Path, PathBuf};

use orangery_wire::Digest;
use tar::{Archive, Entry};

use super::{BackupError, FORMAT, HEAD, Head, LEAP, SUMS, Summary, TEXT_BYTES_MAX, read_failed, write_failed};
use crate::config::Config;
use crate::durable::{create_directories, sync_directory};
use crate::engine::{Actor, Record, append};
use crate::home::Home;
use crate::output;
use crate::release::hashing::Hashing;
use crate::repository::{Repository, RepositoryFiles};
use crate::store::Store;

/// Longest path of a file in a backup.
const PATH_BYTES_MAX: usize = 1_024;

/// Restores the coordinator of `home` from `file`. Everything is checked beside it first; when this returns it is there as a
/// whole, and until then nothing is. What a restore that was cut short left behind is removed by the next.
pub fn restore(home: &Home, file: &Path, progress: &dyn Fn(u64)) -> Result<Summary, BackupError> {
    let place = home.coordinator();
    if place.exists() {
        return Err(BackupError::Exists { path: place });
    }
    create_directories(home.root()).map_err(write_failed(home.root()))?;
    let beside = home.root().join(".coordinator.restoring");
    remove(&beside)?;
    let restored = unpack(file, &beside, progress).and_then(|summary| {
        settle(&beside, &summary.head)?;
        sync_tree(&beside).map_err(write_failed(&beside))?;
        std::fs::rename(&beside, &place).and_then(|()| sync_directory(home.root())).map_err(write_failed(&place))?;
        Ok(summary)
    });
    if restored.is_err() {
        remove(&beside)?;
    }
    restored
}

fn remove(directory: &Path) -> Result<(), BackupError> {
    match std::fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(write_failed(directory)(error)),
        _ => Ok(()),
    }
}

fn unpack(file: &Path, into: &Path, progress: &dyn Fn(u64)) -> Result<Summary, BackupError> {
    let damaged = |reason: String| BackupError::Damaged { path: file.to_owned(), reason };
    let mut archive = Archive::new(BufReader::new(File::open(file).map_err(read_failed(file))?));
    let mut found = BTreeMap::new();
    let (mut head, mut sums, mut bytes) = (None, None, 0);
    for entry in archive.entries().map_err(|error| damaged(error.to_string()))? {
        let mut entry = entry.map_err(|error| damaged(error.to_string()))?;
        let path = path_of(&entry).map_err(damaged)?;
        match (path.as_str(), &head) {
            _ if sums.is_some() => return Err(damaged("something follows its end".to_owned())),
            (HEAD, None) => head = Some(read_head(&mut entry).map_err(damaged)?),
            (_, None) => return Err(damaged(format!("it does not begin with {HEAD}"))),
            (SUMS, _) => sums = Some(read_text(&mut entry).map_err(damaged)?),
            _ => {
                let (digest, size) = write(&mut entry, &into.join(&path))?;
                if found.insert(path.clone(), digest).is_some() {
                    return Err(damaged(format!("{path} is in it twice")));
                }
                bytes += size;
                progress(size);
            }
        }
    }
    let head = head.ok_or_else(|| damaged("it is empty".to_owned()))?;
    let sums = sums.ok_or_else(|| damaged("its end is missing".to_owned()))?;
    let listed = listed(&sums).ok_or_else(|| damaged(format!("{SUMS} cannot be read")))?;
    if let Some((path, _)) = found.iter().find(|(path, digest)| listed.get(*path) != Some(digest)) {
        return Err(damaged(format!("{path} is not as it was written")));
    }
    if let Some(path) = listed.keys().find(|path| !found.contains_key(*path)) {
        return Err(damaged(format!("{path} is missing")));
    }
    Ok(Summary { head, files: found.len() as u64, bytes })
}

/// The path of a regular file that leads nowhere else.
fn path_of(entry: &Entry<'_, impl Read>) -> Result<String, String> {
    let path = entry.path().map_err(|error| error.to_string())?;
    let text = path.to_str().filter(|text| text.len() <= PATH_BYTES_MAX).ok_or("it has a path that cannot be used")?;
    let plain = path.components().all(|part| matches!(part, Component::Normal(_))) && !text.is_empty();
    if !plain || !entry.header().entry_type().is_file() {
        return Err(format!("{text} is not the plain path of a file"));
    }
    Ok(text.to_owned())
}

fn read_text(entry: &mut impl Read) -> Result<String, String> {
    let mut text = String::new();
    entry.take(TEXT_BYTES_MAX).read_to_string(&mut text).map_err(|error| error.to_string())?;
    Ok(text)
}

fn read_head(entry: &mut impl Read) -> Result<Head, String> {
    let head: Head = serde_json::from_str(&read_text(entry)?).map_err(|error| format!("{HEAD}: {error}"))?;
    match head.format {
        FORMAT => Ok(head),
        other => Err(format!("its format is {other}, and this program knows {FORMAT}; use version {}", head.version)),
    }
}

fn write(entry: &mut Entry<'_, impl Read>, path: &Path) -> Result<(Digest, u64), BackupError> {
    let mode = entry.header().mode().unwrap_or(0o600) & 0o755;
    let work = || {
        create_directories(path.parent().unwrap_or(Path::new("/")))?;
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
        let mut content = Hashing::new(entry);
        io::copy(&mut content, &mut file)?;
        file.sync_all()?;
        Ok(content.finish())
    };
    work().map_err(write_failed(path))
}

fn listed(sums: &str) -> Option<BTreeMap<String, Digest>> {
    sums.lines()
        .map(|line| line.split_once("  ").and_then(|(sum, path)| Some((path.to_owned(), sum.parse().ok()?))))
        .collect()
}

/// What the time since the backup asks for: invites may have been used, tokens revoked, passwords changed, users removed, and
/// nodes have seen newer metadata.
fn settle(directory: &Path, head: &Head) -> Result<(), BackupError> {
    let config = Config::load(&directory.join("coordinator.toml"))?;
    Store::open(&config.database())?.commit(|batch| {
        batch.forget_invites(u64::MAX >> 1)?;
        batch.remove_tokens()?;
        batch.remove_passwords()?;
        // What was written down since the backup is lost, and this is how one sees it.
        let record =
            Record::new("coordinator.restore", "the coordinator").with("backup_of", output::moment(head.made_at));
        append(batch, batch.view().audit_end()?, output::now(), &Actor::coordinator(), record, "done").map(drop)
    })?;
    let files = RepositoryFiles {
        metadata: config.metadata(),
        targets: config.targets(),
        snapshot_key: config.keys.snapshot_key.clone(),
        timestamp_key: config.keys.timestamp_key.clone(),
    };
    let now = output::now();
    Ok(Repository::open(files, now)?.leap(LEAP, now)?)
}

/// Files were synced as they were written, or by those who changed them; names were not.
fn sync_tree(directory: &Path) -> io::Result<()> {
    let mut below: Vec<PathBuf> = vec![directory.to_owned()];
    while let Some(directory) = below.pop() {
        for entry in std::fs::read_dir(&directory)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                below.push(entry.path());
            }
        }
        sync_directory(&directory)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tar::{Builder, EntryType, Header};

    use super::*;

    /// An archive with a good head, and then one entry as somebody bad would write it.
    fn hostile(path: &str, kind: EntryType) -> Vec<u8> {
        let mut archive = Builder::new(Vec::new());
        let head = Head { format: FORMAT, version: "0.1.0".into(), made_at: 0, artifacts: true };
        let head = serde_json::to_vec(&head).unwrap();
        let mut header = Header::new_gnu();
        header.set_size(head.len() as u64);
        archive.append_data(&mut header, HEAD, head.as_slice()).unwrap();
        let mut header = Header::new_gnu();
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.as_old_mut().linkname[..4].copy_from_slice(b"/etc");
        header.set_entry_type(kind);
        header.set_size(0);
        header.set_cksum();
        archive.append(&header, io::empty()).unwrap();
        archive.into_inner().unwrap()
    }

    #[test]
    fn nothing_is_written_but_plain_files_below_the_place() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::new(directory.path().join("home"));
        let file = directory.path().join("bad.tar");
        for (path, kind) in [
            ("../../evil", EntryType::Regular),
            ("/evil", EntryType::Regular),
            ("a/../../evil", EntryType::Regular),
            ("", EntryType::Regular),
            ("link", EntryType::Symlink),
            ("link", EntryType::Link),
            ("device", EntryType::Block),
            ("directory", EntryType::Directory),
        ] {
            std::fs::write(&file, hostile(path, kind)).unwrap();
            let error = restore(&home, &file, &|_| ()).unwrap_err();
            assert!(matches!(error, BackupError::Damaged { .. }), "{path} {kind:?}: {error}");
            let left: Vec<_> = std::fs::read_dir(home.root()).unwrap().collect();
            assert!(left.is_empty() && !directory.path().join("evil").exists(), "{path} {kind:?}: {left:?}");
        }
    }

    #[test]
    fn a_format_that_is_not_known_names_the_version_that_knows_it() {
        let text = br#"{"format": 2, "version": "9.9.9", "made_at": 0, "artifacts": true}"#;
        let error = read_head(&mut text.as_slice()).unwrap_err();
        assert!(error.contains("9.9.9"), "{error}");
    }
}
