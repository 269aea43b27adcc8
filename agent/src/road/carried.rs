//! One file that carries a whole repository, or a part of it: [`orangery_wire::container`]. It is read by descriptor and in
//! pieces; only the names in it are kept in memory.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use orangery_wire::container::{BLOCK_BYTES, padding, read_header};
use orangery_wire::manifest::Pack;
use orangery_wire::{AppName, Version};
use rustix::fs::OFlags;

use super::{RoadError, claim};
use crate::fetch::{FetchError, Run};

/// Most files in a bundle.
const FILES_MAX: usize = 4_096;

/// A bundle that was opened. Its container is sound; of what it carries nothing is known but names and sizes.
#[derive(Debug)]
pub struct Carried {
    path: PathBuf,
    file: Arc<File>,
    runs: BTreeMap<String, Run>,
}

impl Carried {
    /// Opens a bundle and finds the files in it. Blocking; reads one block for each.
    pub fn open(path: &Path) -> Result<Self, RoadError> {
        let opening = |source| RoadError::Open { path: path.to_owned(), source };
        let flags = OFlags::NONBLOCK.bits().cast_signed();
        let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(opening)?;
        let metadata = file.metadata().map_err(opening)?;
        if !metadata.is_file() {
            return Err(opening(io::ErrorKind::InvalidInput.into()));
        }
        let runs = find(&file, metadata.len()).map_err(|fault| match fault {
            Fault::Read(source) => opening(source),
            Fault::Rule(rule) => RoadError::NotABundle { path: path.to_owned(), rule },
        })?;
        if !runs.contains_key("metadata/timestamp.json") {
            let rule = "it carries no metadata by which a node could judge it".to_owned();
            return Err(RoadError::NotABundle { path: path.to_owned(), rule });
        }
        Ok(Self { path: path.to_owned(), file: Arc::new(file), runs })
    }

    pub(super) fn place(&self) -> &Path {
        &self.path
    }

    pub(super) fn claims(&self) -> Vec<(AppName, Version)> {
        self.runs.keys().filter_map(|name| claim(name)).collect()
    }

    pub(super) async fn get(&self, path: &str, length_max: u64) -> Result<Option<Vec<u8>>, FetchError> {
        match self.run(path) {
            Some(run) => run.read(self.file.clone(), self.name(path), length_max).await.map(Some),
            None => Ok(None),
        }
    }

    pub(super) async fn pack(&self, path: &str, pack: &Pack, part: &Path) -> Result<File, FetchError> {
        let run = self.run(path).ok_or_else(|| FetchError::Missing { url: self.name(path) })?;
        run.copy(self.file.clone(), self.name(path), pack, part).await
    }

    fn run(&self, path: &str) -> Option<Run> {
        self.runs.get(path.trim_start_matches('/')).copied()
    }

    fn name(&self, path: &str) -> String {
        format!("{path} in {}", self.path.display())
    }
}

enum Fault {
    Read(io::Error),
    Rule(String),
}

/// Walks from header to header; the contents are passed over.
fn find(file: &File, length: u64) -> Result<BTreeMap<String, Run>, Fault> {
    let rule = |text: &str, at: u64| Fault::Rule(format!("{text} (at byte {at})"));
    let block_bytes = BLOCK_BYTES as u64;
    let (mut runs, mut at) = (BTreeMap::new(), 0);
    loop {
        let block = block(file, at)?.ok_or_else(|| rule("it is cut short", at))?;
        if block == [0; BLOCK_BYTES] {
            let last = self::block(file, at + block_bytes)?;
            let whole = length == at + 2 * block_bytes && last == Some(block);
            return if whole { Ok(runs) } else { Err(rule("it does not end where it says", at)) };
        }
        let (name, length_here) =
            read_header(&block).ok_or_else(|| rule("it was changed or is of another kind", at))?;
        let offset = at + block_bytes;
        // Neither can overflow: a content has at most 8 GiB and the file its length.
        at = offset + length_here + padding(length_here);
        if at > length {
            return Err(rule("it is cut short", offset));
        }
        if !is_padded(file, at, padding(length_here)).map_err(Fault::Read)? {
            return Err(rule("it hides something behind a file", offset));
        }
        if runs.len() == FILES_MAX {
            return Err(rule("it carries too many files", offset));
        }
        if runs.insert(name, Run { offset, length: length_here }).is_some() {
            return Err(rule("it carries a file twice", offset));
        }
    }
}

/// Whether the `count` bytes before `end` are zeros; fewer than a block.
fn is_padded(file: &File, end: u64, count: u64) -> io::Result<bool> {
    let mut block = [0; BLOCK_BYTES];
    let padding = usize::try_from(count).ok().and_then(|count| block.get_mut(..count)).unwrap_or_default();
    file.read_exact_at(padding, end - count)?;
    Ok(padding.iter().all(|byte| *byte == 0))
}

fn block(file: &File, at: u64) -> Result<Option<[u8; BLOCK_BYTES]>, Fault> {
    let mut block = [0; BLOCK_BYTES];
    match file.read_exact_at(&mut block, at) {
        Ok(()) => Ok(Some(block)),
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(e) => Err(Fault::Read(e)),
    }
}

#[cfg(test)]
mod tests {
    use orangery_wire::container::header;

    use super::*;

    fn container(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (name, content) in files {
            bytes.extend(header(name, content.len() as u64).unwrap());
            bytes.extend_from_slice(content);
            bytes.resize(bytes.len().next_multiple_of(BLOCK_BYTES), 0);
        }
        bytes.resize(bytes.len() + 2 * BLOCK_BYTES, 0);
        bytes
    }

    fn opened(bytes: &[u8]) -> Result<Carried, RoadError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        Carried::open(file.path())
    }

    #[test]
    fn files_are_found_by_name_and_releases_by_their_manifests() {
        let digest = "0".repeat(64);
        let manifest = format!("targets/greeter/1.0.0/{digest}.manifest.json");
        let carried = opened(&container(&[("metadata/timestamp.json", b"{}"), (&manifest, b"abc")])).unwrap();
        assert_eq!(carried.runs[&manifest].length, 3);
        let claims: Vec<String> = carried.claims().iter().map(|(app, version)| format!("{app}@{version}")).collect();
        assert_eq!(claims, ["greeter@1.0.0"]);
    }

    #[test]
    fn every_cut_and_every_changed_header_is_told() {
        let good = container(&[("metadata/timestamp.json", &[7; 700]), ("blobs/x", b"")]);
        assert!(opened(&good).is_ok());
        for length in 0..good.len() {
            assert!(matches!(opened(&good[..length]), Err(RoadError::NotABundle { .. })), "{length}");
        }
        for at in (0..BLOCK_BYTES).chain(1536..good.len()) {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert!(opened(&bad).is_err(), "byte {at}");
        }
    }

    #[test]
    fn what_has_no_metadata_or_names_a_file_twice_is_no_bundle() {
        let timestamp: (&str, &[u8]) = ("metadata/timestamp.json", b"{}");
        for files in [vec![], vec![("manifest.json", &b"{}"[..])], vec![timestamp, timestamp]] {
            assert!(matches!(opened(&container(&files)), Err(RoadError::NotABundle { .. })));
        }
        assert!(matches!(Carried::open(Path::new("/dev/zero")), Err(RoadError::Open { .. })));
    }
}
