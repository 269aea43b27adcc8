//! The file that carries a release: `manifest.json`, `targets.json` once it is signed, and `packs/DIGEST` for every pack
//! that the manifest names, in an [`archive`].

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use orangery_wire::manifest::{InvalidManifest, Manifest, Pack};
use orangery_wire::{Digest, ReleaseId, limits};

use super::archive::{self, BadArchive, Section};
use crate::sha256;

const MANIFEST: &str = "manifest.json";
const TARGETS: &str = "targets.json";
const PACKS: &str = "packs/";

/// A bundle that was opened. Its manifest is valid and its packs are those that the manifest names, by name and size;
/// whether their bytes are right is for [`verify`](super::verify) to say.
#[derive(Debug)]
pub struct Bundle {
    path: PathBuf,
    manifest_bytes: Vec<u8>,
    manifest: Manifest,
    targets: Option<Vec<u8>>,
    packs: BTreeMap<Digest, Section>,
}

/// Why a file cannot be used as a bundle.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// It cannot be opened or read.
    #[error("cannot read the release file {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It cannot be written.
    #[error("cannot write the release file {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Its container is damaged.
    #[error("{path} is not a release file: {source}")]
    Archive {
        /// The file.
        path: PathBuf,
        /// How.
        source: BadArchive,
    },
    /// Something is there that must not be, or missing that must be there.
    #[error("{path} is not a release file: {rule}; build it again with `orangery release build`")]
    Content {
        /// The file.
        path: PathBuf,
        /// The rule.
        rule: String,
    },
    /// Its manifest breaks a rule.
    #[error("the release file {path} carries a manifest that cannot be used")]
    Manifest {
        /// The file.
        path: PathBuf,
        /// Which rule.
        source: InvalidManifest,
    },
}

impl Bundle {
    /// Opens a bundle and reads all of it but the packs.
    pub fn open(path: &Path) -> Result<Self, BundleError> {
        let read = |source| BundleError::Read { path: path.to_owned(), source };
        let mut file = File::open(path).map_err(read)?;
        let sections = archive::read_sections(&mut file).map_err(|source| match source {
            BadArchive::Read(source) => read(source),
            source => BundleError::Archive { path: path.to_owned(), source },
        })?;
        let content = |rule: String| BundleError::Content { path: path.to_owned(), rule };
        let mut sections = sections.into_iter().peekable();
        let first = sections.next_if(|s| s.name == MANIFEST).ok_or_else(|| content("it has no manifest".into()))?;
        let manifest_bytes = read_section(&mut file, &first, limits::MANIFEST_BYTES_MAX as u64).map_err(read)?;
        let manifest = Manifest::parse(&manifest_bytes)
            .map_err(|source| BundleError::Manifest { path: path.to_owned(), source })?;
        let targets = sections.next_if(|s| s.name == TARGETS);
        let targets = targets
            .map(|s| read_section(&mut file, &s, orangery_trust::limits::TARGETS_BYTES_MAX))
            .transpose()
            .map_err(read)?;
        let packs = match_packs(&manifest, sections).map_err(content)?;
        Ok(Self { path: path.to_owned(), manifest_bytes, manifest, targets, packs })
    }

    /// Writes a bundle to `path`: beside it first, then in its place at once. `packs` are opened one after the other.
    pub fn write<R: Read>(
        path: &Path,
        manifest_bytes: &[u8],
        targets: Option<&[u8]>,
        packs: &BTreeMap<Digest, u64>,
        mut open: impl FnMut(&Digest) -> io::Result<R>,
    ) -> Result<(), BundleError> {
        let write = |source| BundleError::Write { path: path.to_owned(), source };
        let directory = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut file = tempfile::Builder::new()
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
            .tempfile_in(directory)
            .map_err(write)?;
        let mut out = io::BufWriter::new(file.as_file_mut());
        let mut whole = || {
            archive::write_section(&mut out, MANIFEST, manifest_bytes.len() as u64, manifest_bytes)?;
            if let Some(targets) = targets {
                archive::write_section(&mut out, TARGETS, targets.len() as u64, targets)?;
            }
            for (digest, size_bytes) in packs {
                archive::write_section(&mut out, &format!("{PACKS}{digest}"), *size_bytes, open(digest)?)?;
            }
            archive::write_end(&mut out)?;
            out.flush()
        };
        whole().map_err(write)?;
        drop(out);
        file.as_file().sync_all().map_err(write)?;
        file.persist(path).map_err(|e| write(e.error))?;
        File::open(directory).and_then(|directory| directory.sync_all()).map_err(write)
    }

    /// Writes the bundle again, now with `targets`, and takes that in.
    pub fn set_targets(&mut self, targets: &[u8]) -> Result<(), BundleError> {
        let sizes = self.packs.iter().map(|(digest, section)| (*digest, section.size_bytes)).collect();
        Self::write(&self.path, &self.manifest_bytes, Some(targets), &sizes, |digest| self.pack(digest))?;
        *self = Self::open(&self.path)?;
        Ok(())
    }

    /// Where the bundle is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The manifest's bytes: what is signed.
    pub fn manifest_bytes(&self) -> &[u8] {
        &self.manifest_bytes
    }

    /// The release's id.
    pub fn id(&self) -> ReleaseId {
        ReleaseId(sha256::digest(&self.manifest_bytes))
    }

    /// The targets metadata, if the bundle was signed.
    pub fn targets(&self) -> Option<&[u8]> {
        self.targets.as_deref()
    }

    /// The packs, with their sizes in bytes.
    pub fn packs(&self) -> impl Iterator<Item = (Digest, u64)> {
        self.packs.iter().map(|(digest, section)| (*digest, section.size_bytes))
    }

    /// Opens one pack for reading from its beginning to its end.
    pub fn pack(&self, digest: &Digest) -> io::Result<io::Take<BufReader<File>>> {
        let (file, size_bytes) = self.pack_file(digest)?;
        Ok(BufReader::new(file).take(size_bytes))
    }

    /// The bundle's file at the place where one pack begins, and how many bytes that has.
    pub fn pack_file(&self, digest: &Digest) -> io::Result<(File, u64)> {
        let section = self.packs.get(digest).ok_or(io::ErrorKind::NotFound)?;
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(section.offset))?;
        Ok((file, section.size_bytes))
    }
}

fn read_section(file: &mut File, section: &Section, size_bytes_max: u64) -> io::Result<Vec<u8>> {
    if section.size_bytes > size_bytes_max {
        let reason = format!("{} has {} bytes; at most {size_bytes_max} are allowed", section.name, section.size_bytes);
        return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
    }
    file.seek(SeekFrom::Start(section.offset))?;
    let mut bytes = Vec::new();
    file.take(section.size_bytes).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Every pack of the manifest, once. Platforms with the same files share one.
pub(super) fn packs_of(manifest: &Manifest) -> BTreeMap<Digest, &Pack> {
    manifest.platforms.values().map(|tree| (tree.pack.digest, &tree.pack)).collect()
}

fn match_packs(
    manifest: &Manifest,
    sections: impl Iterator<Item = Section>,
) -> Result<BTreeMap<Digest, Section>, String> {
    let wanted = packs_of(manifest);
    let mut found: BTreeMap<Digest, Section> = BTreeMap::new();
    for section in sections {
        let name = section.name.clone();
        let digest = name.strip_prefix(PACKS).and_then(|digest| digest.parse().ok());
        let digest: Digest = digest.ok_or_else(|| format!("{name:?} does not belong in it"))?;
        if found.last_key_value().is_some_and(|(last, _)| *last >= digest) {
            return Err("its packs are not in order".into());
        }
        let pack = wanted.get(&digest).ok_or_else(|| format!("its manifest does not name the pack {digest}"))?;
        if section.size_bytes != pack.size_bytes {
            let (has, says) = (section.size_bytes, pack.size_bytes);
            return Err(format!("the pack {digest} has {has} bytes, and its manifest says {says}"));
        }
        found.insert(digest, section);
    }
    match wanted.keys().find(|digest| !found.contains_key(digest)) {
        Some(missing) => Err(format!("the pack {missing} is missing")),
        None => Ok(found),
    }
}
