//! `release build`: directories and a manifest file become a bundle. The same input gives the same bytes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Read, Seek as _, Write};
use std::path::{Path, PathBuf};

use indicatif::ProgressBar;
use orangery_wire::manifest::{Encoding, Entry, InvalidManifest, Manifest, Pack, Tree, is_platform};
use orangery_wire::{AppName, Digest, Version};

use super::bundle::{Bundle, BundleError};
use super::hashing::HashingWriter;
use super::recipe::{InvalidRecipe, Recipe};
use super::tree::{self, Found, Kind, TreeError};
use crate::sha256::Hash;

/// The compression level unless another is asked for.
pub const LEVEL: i32 = 19;
/// Two to the power of this is the largest window: 8 MiB, which is what an agent reserves at most.
pub const WINDOW_LOG_MAX: u32 = 23;

/// What to build.
#[derive(Debug, Clone)]
pub struct Plan<'a> {
    /// The app.
    pub app: AppName,
    /// The version.
    pub version: Version,
    /// The manifest file.
    pub recipe: &'a Path,
    /// The directory of each platform.
    pub platforms: &'a BTreeMap<String, PathBuf>,
    /// Where the bundle goes; a file that is there is replaced.
    pub out: &'a Path,
    /// Zstandard's level, 1 to 22; 0 stores the files as they are.
    pub level: i32,
}

/// Why nothing was built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The manifest file cannot be read.
    #[error("cannot read the manifest file {path}")]
    ReadRecipe {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The manifest file is not understood.
    #[error("the manifest file {path} cannot be used")]
    Recipe {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: InvalidRecipe,
    },
    /// A platform's name is none.
    #[error("{name:?} is not a platform; write it like linux/arm64 or linux/amd64")]
    Platform {
        /// The name.
        name: String,
    },
    /// A directory cannot become a tree.
    #[error("cannot build the platform {platform}")]
    Tree {
        /// The platform.
        platform: String,
        /// What is in the way.
        source: TreeError,
    },
    /// A file cannot be packed.
    #[error("cannot pack {path}")]
    Pack {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Room for the pack could not be made, or it could not be finished.
    #[error("cannot write a pack beside {out}")]
    Write {
        /// Where the bundle would be.
        out: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What came out is not a valid release.
    #[error("the release cannot be built as it is")]
    Invalid(#[source] InvalidManifest),
    /// The bundle cannot be written.
    #[error(transparent)]
    Bundle(#[from] BundleError),
}

/// Builds the bundle. `progress` counts the bytes of all files.
pub fn build(plan: &Plan<'_>, progress: &ProgressBar) -> Result<Bundle, BuildError> {
    let recipe = read_recipe(plan.recipe)?;
    let found = walk_all(plan.platforms)?;
    progress.set_length(found.values().flatten().map(size_of).sum());
    let mut platforms = BTreeMap::new();
    let mut packs: BTreeMap<Digest, File> = BTreeMap::new();
    for (platform, entries) in found {
        let root = plan.platforms.get(&platform).map_or(Path::new(""), PathBuf::as_path);
        let (tree, pack) = pack_tree(root, entries, plan, progress)?;
        packs.entry(tree.pack.digest).or_insert(pack);
        platforms.insert(platform, tree);
    }
    let in_recipe = |source| BuildError::Recipe { path: plan.recipe.to_owned(), source };
    let manifest = recipe.into_manifest(plan.app.clone(), plan.version.clone(), platforms).map_err(in_recipe)?;
    // Checked as the reader will check it, from the bytes on: what a node would refuse is refused here.
    let bytes = manifest.to_bytes();
    Manifest::parse(&bytes).map_err(BuildError::Invalid)?;
    let sizes = manifest.platforms.values().map(|tree| (tree.pack.digest, tree.pack.size_bytes)).collect();
    Bundle::write(plan.out, &bytes, None, &sizes, |digest| {
        let mut pack = packs.get(digest).ok_or(io::ErrorKind::NotFound)?;
        pack.rewind()?;
        Ok(pack)
    })?;
    Ok(Bundle::open(plan.out)?)
}

fn read_recipe(path: &Path) -> Result<Recipe, BuildError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| BuildError::ReadRecipe { path: path.to_owned(), source })?;
    Recipe::parse(&text).map_err(|source| BuildError::Recipe { path: path.to_owned(), source })
}

fn walk_all(platforms: &BTreeMap<String, PathBuf>) -> Result<BTreeMap<String, Vec<Found>>, BuildError> {
    let walk = |(platform, root): (&String, &PathBuf)| {
        if !is_platform(platform) {
            return Err(BuildError::Platform { name: platform.clone() });
        }
        let found = tree::walk(root).map_err(|source| BuildError::Tree { platform: platform.clone(), source })?;
        Ok((platform.clone(), found))
    };
    platforms.iter().map(walk).collect()
}

fn size_of(found: &Found) -> u64 {
    match found.kind {
        Kind::File { size_bytes, .. } => size_bytes,
        Kind::Directory | Kind::Link { .. } => 0,
    }
}

/// Packs the files of one tree, one after the other, into a file without a name.
fn pack_tree(
    root: &Path,
    found: Vec<Found>,
    plan: &Plan<'_>,
    progress: &ProgressBar,
) -> Result<(Tree, File), BuildError> {
    let write = |source| BuildError::Write { out: plan.out.to_owned(), source };
    let size_bytes = found.iter().map(size_of).sum();
    let beside = plan.out.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let file = BufWriter::new(tempfile::tempfile_in(beside).map_err(write)?);
    let mut packer = Packer::new(HashingWriter::new(file), plan.level, size_bytes).map_err(write)?;
    let mut entries = Vec::with_capacity(found.len());
    for Found { path, kind } in found {
        entries.push(match kind {
            Kind::Directory => Entry::Directory { path },
            Kind::Link { target } => Entry::Link { path, target },
            Kind::File { size_bytes, executable } => {
                let place = root.join(&path);
                let digest = pack_file(&place, size_bytes, &mut packer, progress)
                    .map_err(|source| BuildError::Pack { path: place, source })?;
                Entry::File { path, digest, size_bytes, executable }
            }
        });
    }
    let (writer, encoding) = packer.finish().map_err(write)?;
    let (file, digest, packed_bytes) = writer.finish();
    let file = file.into_inner().map_err(|e| write(e.into_error()))?;
    Ok((Tree { size_bytes, pack: Pack { digest, size_bytes: packed_bytes, encoding }, entries }, file))
}

fn pack_file(place: &Path, size_bytes: u64, packer: &mut impl Write, progress: &ProgressBar) -> io::Result<Digest> {
    let mut file = File::open(place)?;
    let mut hash = Hash::default();
    let mut buffer = vec![0; 128 * 1024];
    let mut count_packed = 0;
    loop {
        let count = file.read(&mut buffer)?;
        let Some(part) = buffer.get(..count).filter(|part| !part.is_empty()) else { break };
        hash.update(part);
        packer.write_all(part)?;
        count_packed += count as u64;
        progress.inc(count as u64);
    }
    if count_packed == size_bytes {
        Ok(hash.finish())
    } else {
        Err(io::Error::other("it changed while it was being packed; build again when nothing writes to it"))
    }
}

/// What compresses a tree, or passes it on.
enum Packer<W: Write> {
    Zstd(zstd::Encoder<'static, W>),
    None(W),
}

impl<W: Write> Packer<W> {
    fn new(out: W, level: i32, size_bytes: u64) -> io::Result<Self> {
        if level == 0 {
            return Ok(Self::None(out));
        }
        let mut encoder = zstd::Encoder::new(out, level)?;
        encoder.window_log(WINDOW_LOG_MAX)?;
        // A tree smaller than the window then asks a node for no more memory than it has bytes.
        encoder.set_pledged_src_size(Some(size_bytes))?;
        encoder.include_contentsize(true)?;
        Ok(Self::Zstd(encoder))
    }

    fn finish(self) -> io::Result<(W, Encoding)> {
        match self {
            Self::Zstd(encoder) => Ok((encoder.finish()?, Encoding::Zstd)),
            Self::None(out) => Ok((out, Encoding::None)),
        }
    }
}

impl<W: Write> Write for Packer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Zstd(encoder) => encoder.write(bytes),
            Self::None(out) => out.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Zstd(encoder) => encoder.flush(),
            Self::None(out) => out.flush(),
        }
    }
}
