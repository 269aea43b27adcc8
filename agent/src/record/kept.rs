//! A small file with its previous copy: how it is read, in which formats, and how it is replaced.

use std::io;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{DIR_MODE, FILE_MODE, RECORD_BYTES_MAX, Source, digest};
use crate::disk::{self, Disk};

/// One format of a file: the number that it has in the file, and how it is read into what this version works with.
pub(crate) struct Reader<T> {
    pub(crate) format: u32,
    pub(crate) read: fn(&[u8]) -> serde_json::Result<T>,
}

impl<T: DeserializeOwned> Reader<T> {
    /// For a format that is the JSON of what this version works with.
    pub(crate) const fn json(format: u32) -> Self {
        Self { format, read: from_json::<T> }
    }
}

fn from_json<T: DeserializeOwned>(bytes: &[u8]) -> serde_json::Result<T> {
    serde_json::from_slice(bytes)
}

/// What a small file holds. What is written is in the format that the value itself says.
pub(crate) trait Formatted: Serialize + Sized + 'static {
    /// Every format that this version reads: the one that it writes, the one before, and maybe the next one, which a later
    /// version will write. docs/disk.md has the rule.
    const READERS: &'static [Reader<Self>];
}

/// Why a file is not what it should hold.
#[derive(Debug, thiserror::Error)]
enum Unread {
    #[error(transparent)]
    Read(#[from] io::Error),
    #[error("{0}")]
    Damaged(String),
    /// Whole, and in a format of another version.
    #[error("its format is {found}, and this version knows {known}")]
    Foreign { found: u32, known: String },
}

/// All that is looked at before the format is known.
#[derive(Deserialize)]
struct Head {
    format: u32,
}

/// Where the copy of the state before the last save is: `NAME.previous`.
pub(crate) fn previous(path: &Path) -> PathBuf {
    beside(path, "previous")
}

/// Where a file in a format that this version does not know goes before it is replaced: `NAME.format-N`.
pub(super) fn foreign(path: &Path, format: u32) -> PathBuf {
    beside(path, &format!("format-{format}"))
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(suffix);
    path.with_file_name(name)
}

/// Saves `state` and keeps what the file held as the previous copy.
///
/// The previous copy is a second name of the old file, so that nothing is written twice. A file that is damaged is not kept:
/// it would push out the good copy that the state was loaded from. One that another version wrote, in a format that this one
/// does not know, is kept under a name of its own: that version may come back.
pub(crate) fn save_kept<T: Formatted>(disk: &dyn Disk, path: &Path, state: &T) -> io::Result<()> {
    if let Some(dir) = path.parent() {
        disk::make_dir(disk, dir, DIR_MODE)?;
    }
    disk::prepare(disk, path, &encode(state)?, FILE_MODE)?;
    match read_state::<T>(disk, path) {
        Ok(_) => keep(disk, path, &previous(path))?,
        Err(Unread::Foreign { found, .. }) => {
            keep(disk, path, &foreign(path, found))?;
            // The rename that follows may outrun the second name, and this copy is the only one.
            path.parent().map_or(Ok(()), |dir| disk.sync_dir(dir))?;
        }
        Err(Unread::Read(_) | Unread::Damaged(_)) => {}
    }
    disk::put_in_place(disk, path)
}

fn keep(disk: &dyn Disk, path: &Path, kept: &Path) -> io::Result<()> {
    match disk.remove_file(kept) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => disk.hard_link(path, kept),
    }
}

/// Loads from the file, else from its previous copy; says what was wrong with the file.
pub(crate) fn load_kept<T: Formatted>(disk: &dyn Disk, path: &Path) -> (Option<T>, Source, Option<String>) {
    let trouble = match read_state(disk, path) {
        Ok(state) => return (Some(state), Source::Primary, None),
        Err(unread) => unread,
    };
    match read_state(disk, &previous(path)) {
        Ok(state) => (Some(state), Source::Previous, Some(trouble.to_string())),
        Err(kept) => {
            let missing = |unread: &Unread| matches!(unread, Unread::Read(e) if e.kind() == io::ErrorKind::NotFound);
            let never = missing(&trouble) && missing(&kept);
            (None, Source::Absent, (!never).then(|| trouble.to_string()))
        }
    }
}

/// Reads one copy; every way in which it can be wrong is an error.
fn read_state<T: Formatted>(disk: &dyn Disk, path: &Path) -> Result<T, Unread> {
    let bytes = disk.read(path, RECORD_BYTES_MAX)?;
    if !is_whole(&bytes) {
        return Err(Unread::Damaged("its checksum is wrong".to_owned()));
    }
    let damaged = |error: serde_json::Error| Unread::Damaged(error.to_string());
    let found = serde_json::from_slice::<Head>(&bytes).map_err(damaged)?.format;
    if let Some(reader) = T::READERS.iter().find(|reader| reader.format == found) {
        return (reader.read)(&bytes).map_err(damaged);
    }
    let known: Vec<String> = T::READERS.iter().map(|reader| reader.format.to_string()).collect();
    Err(Unread::Foreign { found, known: known.join(", ") })
}

/// One member of a file that is whole, whatever its format.
pub(super) fn member<T: DeserializeOwned>(disk: &dyn Disk, path: &Path, name: &str) -> Option<T> {
    let bytes = disk.read(path, RECORD_BYTES_MAX).ok().filter(|bytes| is_whole(bytes))?;
    let mut all: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(&bytes).ok()?;
    serde_json::from_value(all.remove(name)?).ok()
}

pub(super) const SUM_BEGIN: &str = "{\n  \"sha256\": \"";
pub(super) const SUM_END: &str = "\",\n";

/// Pretty JSON whose first member is the SHA-256 of everything after that member's line.
pub(super) fn encode<T: Serialize>(state: &T) -> io::Result<Vec<u8>> {
    let text = serde_json::to_string_pretty(state)?;
    let rest = text.strip_prefix("{\n").unwrap_or(&text);
    let sum = digest(rest.as_bytes());
    Ok(format!("{SUM_BEGIN}{sum}{SUM_END}{rest}").into_bytes())
}

/// Whether the content is what was saved; or was written by a person, who leaves the checksum out.
fn is_whole(bytes: &[u8]) -> bool {
    let Some(after) = bytes.strip_prefix(SUM_BEGIN.as_bytes()) else { return true };
    let Some((sum, after)) = after.split_at_checked(64) else { return false };
    let Some(rest) = after.strip_prefix(SUM_END.as_bytes()) else { return false };
    digest(rest).to_string().as_bytes() == sum
}
