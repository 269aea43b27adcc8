//! Checks that a bundle's bytes are what its manifest says: every digest of every pack and every file in it, as a node
//! will check them.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::PathBuf;

use indicatif::ProgressBar;
use orangery_wire::Digest;
use orangery_wire::manifest::{Encoding, Entry, Pack, Tree};

use super::build::WINDOW_LOG_MAX;
use super::bundle::{Bundle, packs_of};
use super::hashing::Hashing;

/// Why a bundle is not what its manifest says.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// A pack cannot be read or unpacked.
    #[error("cannot unpack {digest} of {path}")]
    Unpack {
        /// The pack.
        digest: Digest,
        /// The bundle.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A pack has other bytes than those that were signed.
    #[error("the pack {digest} of {path} was changed: its bytes have the digest {found}; build the release again")]
    Pack {
        /// What the manifest says.
        digest: Digest,
        /// The bundle.
        path: PathBuf,
        /// What the bytes have.
        found: Digest,
    },
    /// A pack holds another file than the manifest says.
    #[error("{file} of {platform} in {path} is not the file that the manifest names; build the release again")]
    File {
        /// The file, as named in the tree.
        file: String,
        /// The platform.
        platform: String,
        /// The bundle.
        path: PathBuf,
    },
    /// A pack goes on after its last file.
    #[error("the pack of {platform} in {path} holds more than the manifest's files; build the release again")]
    Longer {
        /// The platform.
        platform: String,
        /// The bundle.
        path: PathBuf,
    },
}

/// Hashes every pack and unpacks every file of every platform, writing nothing. `progress` counts packed bytes.
pub fn contents(bundle: &Bundle, progress: &ProgressBar) -> Result<(), VerifyError> {
    progress.set_length(bundle.packs().map(|(_, size_bytes)| size_bytes).sum());
    for pack in packs_of(bundle.manifest()).into_values() {
        check_pack(bundle, pack, progress)?;
    }
    let platforms = &bundle.manifest().platforms;
    platforms.iter().try_for_each(|(platform, tree)| check_tree(bundle, platform, tree))
}

fn check_pack(bundle: &Bundle, pack: &Pack, progress: &ProgressBar) -> Result<(), VerifyError> {
    let path = || bundle.path().to_owned();
    let unpack = |source| VerifyError::Unpack { digest: pack.digest, path: path(), source };
    let mut reader = Hashing::new(progress.wrap_read(bundle.pack(&pack.digest).map_err(unpack)?));
    io::copy(&mut reader, &mut io::sink()).map_err(unpack)?;
    let (found, _) = reader.finish();
    if found == pack.digest { Ok(()) } else { Err(VerifyError::Pack { digest: pack.digest, path: path(), found }) }
}

fn check_tree(bundle: &Bundle, platform: &str, tree: &Tree) -> Result<(), VerifyError> {
    let path = || bundle.path().to_owned();
    let unpack = |source| VerifyError::Unpack { digest: tree.pack.digest, path: path(), source };
    let mut reader = unpacked(bundle, &tree.pack).map_err(unpack)?;
    for entry in &tree.entries {
        let Entry::File { path: file, digest, size_bytes, .. } = entry else { continue };
        let mut content = Hashing::new((&mut reader).take(*size_bytes));
        io::copy(&mut content, &mut io::sink()).map_err(unpack)?;
        if content.finish() != (*digest, *size_bytes) {
            return Err(VerifyError::File { file: file.clone(), platform: platform.to_owned(), path: path() });
        }
    }
    if reader.ends_here().map_err(unpack)? {
        Ok(())
    } else {
        Err(VerifyError::Longer { platform: platform.to_owned(), path: path() })
    }
}

type PackReader = io::Take<BufReader<File>>;

/// The files of one pack, as they come out of it.
enum Unpacked {
    Plain(PackReader),
    Zstd(zstd::Decoder<'static, PackReader>),
}

fn unpacked(bundle: &Bundle, pack: &Pack) -> io::Result<Unpacked> {
    let reader = bundle.pack(&pack.digest)?;
    Ok(match pack.encoding {
        Encoding::None => Unpacked::Plain(reader),
        Encoding::Zstd => {
            let mut decoder = zstd::Decoder::with_buffer(reader)?.single_frame();
            decoder.window_log_max(WINDOW_LOG_MAX)?;
            Unpacked::Zstd(decoder)
        }
    })
}

impl Unpacked {
    /// Whether nothing comes any more, and nothing is left in the pack after its one frame.
    fn ends_here(mut self) -> io::Result<bool> {
        let more = self.read(&mut [0])?;
        let left = match self {
            Self::Plain(reader) => reader.limit(),
            Self::Zstd(decoder) => decoder.finish().limit(),
        };
        Ok(more == 0 && left == 0)
    }
}

impl Read for Unpacked {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(reader) => reader.read(out),
            Self::Zstd(decoder) => decoder.read(out),
        }
    }
}
