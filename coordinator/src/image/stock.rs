//! The stock image: is it what its vendor published, and what is in it unpacked?

use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use indicatif::ProgressBar;

use super::{ImageError, tools};
use crate::sha256;

/// Endings of the files in which vendors publish checksums.
const BESIDE: [&str; 3] = ["sha256", "sha", "sha256sum"];
/// Longest of them that is read.
const CHECKSUMS_BYTES_MAX: u64 = 1 << 20;
/// What is read and written at once. Blocks of zeros are left out: an image is mostly empty.
const PIECE: usize = 1 << 20;

/// What a stock image must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Checksum {
    /// What stands in a file beside it: `NAME.sha256`, `NAME.sha`.
    Beside,
    /// A SHA-256 in hexadecimal digits, or a file with one.
    Given(String),
    /// Anything.
    Unchecked,
}

/// How a file is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Packing {
    None,
    Xz,
    Gzip,
    Zstd,
}

/// A stock image. It is only ever read.
#[derive(Debug)]
pub struct Stock {
    path: PathBuf,
    packing: Packing,
    size_bytes: u64,
}

impl Stock {
    /// Opens it and checks that it is what its vendor published; that reads all of it.
    pub fn open(path: &Path, checksum: &Checksum, progress: &ProgressBar) -> Result<Self, ImageError> {
        let read = |source| ImageError::Read { path: path.to_owned(), source };
        let mut file = File::open(path).map_err(read)?;
        let size_bytes = file.metadata().map_err(read)?.len();
        let mut magic = [0; 6];
        let known = file.read(&mut magic).map_err(read)?;
        let packing = packing(magic.get(..known).unwrap_or_default())
            .map_err(|reason| ImageError::NotAnImage { path: path.to_owned(), reason: reason.to_owned() })?;
        if let Some(expected) = expected(path, checksum)? {
            file.seek(SeekFrom::Start(0)).map_err(read)?;
            progress.set_length(size_bytes);
            let found = sha256::of(&mut progress.wrap_read(&file)).map_err(read)?.to_string();
            if found != expected {
                return Err(ImageError::WrongChecksum { path: path.to_owned(), expected, found });
            }
        }
        Ok(Self { path: path.to_owned(), packing, size_bytes })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes it, unpacked, into the empty file `out`.
    pub fn unpack(&self, out: &Path, progress: &ProgressBar) -> Result<(), ImageError> {
        let read = |source| ImageError::Read { path: self.path.clone(), source };
        let source = File::open(&self.path).map_err(read)?;
        progress.set_length(self.size_bytes);
        progress.set_position(0);
        let source = progress.wrap_read(source);
        let program = match self.packing {
            Packing::None => return self.copy(source, out),
            Packing::Xz => "xz",
            Packing::Gzip => "gzip",
            Packing::Zstd => "zstd",
        };
        let mut command = tools::command(program);
        command.args(["-d", "-c"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut unpacking = command.spawn().map_err(|error| tools::not_run(program, &error))?;
        let (input, output) = (unpacking.stdin.take(), unpacking.stdout.take());
        let feeding = std::thread::spawn(move || feed(source, input));
        let written = output.map_or(Ok(()), |output| self.copy(output, out));
        let ended = unpacking.wait_with_output().map_err(read)?;
        // It fails when the program has ended before; then that is what counts.
        let _ = feeding.join();
        written?;
        if !ended.status.success() {
            let text = String::from_utf8_lossy(&ended.stderr);
            let reason = format!("it does not unpack: {}", text.lines().next().unwrap_or(program).trim());
            return Err(ImageError::NotAnImage { path: self.path.clone(), reason });
        }
        Ok(())
    }

    fn copy(&self, mut from: impl Read, out: &Path) -> Result<(), ImageError> {
        let write = |source| ImageError::Write { path: out.to_owned(), source };
        let mut to = File::options().write(true).truncate(true).open(out).map_err(write)?;
        let mut piece = vec![0; PIECE];
        let mut length = 0;
        loop {
            let filled =
                fill(&mut from, &mut piece).map_err(|source| ImageError::Read { path: self.path.clone(), source })?;
            let bytes = piece.get(..filled).unwrap_or_default();
            if bytes.is_empty() {
                break;
            }
            if bytes.iter().any(|byte| *byte != 0) {
                to.seek(SeekFrom::Start(length)).and_then(|_| to.write_all(bytes)).map_err(write)?;
            }
            length += bytes.len() as u64;
        }
        to.set_len(length).map_err(write)
    }

    /// Refuses if `images` of them, each larger by `grow_bytes`, do not fit into `directory`, which need not be there yet.
    /// Blocks of zeros count, too: they take no space only until something is written there.
    pub fn ensure_space(&self, directory: &Path, images: usize, grow_bytes: u64) -> Result<(), ImageError> {
        let each = self.unpacked_bytes()?.saturating_add(grow_bytes);
        let needed_bytes = each.saturating_mul(images as u64);
        let there = directory.ancestors().find(|place| place.is_dir()).unwrap_or(Path::new("."));
        let system = rustix::fs::statvfs(there)
            .map_err(|error| ImageError::Write { path: directory.to_owned(), source: error.into() })?;
        let free_bytes = system.f_bavail.saturating_mul(system.f_frsize);
        if needed_bytes > free_bytes {
            return Err(ImageError::NoSpace { path: directory.to_owned(), needed_bytes, free_bytes });
        }
        Ok(())
    }

    /// How large it is unpacked; at least that, if it does not say.
    fn unpacked_bytes(&self) -> Result<u64, ImageError> {
        match self.packing {
            Packing::Xz => {
                let text = tools::said("xz", tools::command("xz").args(["--robot", "--list"]).arg(&self.path))
                    .map_err(|error| match error {
                        ImageError::Tool { reason, .. } => ImageError::NotAnImage { path: self.path.clone(), reason },
                        other => other,
                    })?;
                let text = String::from_utf8_lossy(&text).into_owned();
                let totals = text.lines().find_map(|line| line.strip_prefix("totals\t"));
                Ok(totals.and_then(|line| line.split('\t').nth(3)?.parse().ok()).unwrap_or(self.size_bytes))
            }
            // Of gzip and zstd it is not known before the end.
            Packing::None | Packing::Gzip | Packing::Zstd => Ok(self.size_bytes),
        }
    }
}

fn feed(mut from: impl Read, to: Option<impl io::Write>) -> io::Result<u64> {
    to.map_or(Ok(0), |mut to| io::copy(&mut from, &mut to))
}

/// Fills all of `piece`, unless the end comes first.
fn fill(from: &mut impl Read, piece: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = piece.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match from.read(rest) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

fn packing(magic: &[u8]) -> Result<Packing, &'static str> {
    match magic {
        [0xfd, b'7', b'z', b'X', b'Z', 0] => Ok(Packing::Xz),
        [0x1f, 0x8b, ..] => Ok(Packing::Gzip),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Ok(Packing::Zstd),
        [b'P', b'K', 3, 4, ..] => Err("it is a ZIP archive; unpack it and name the image in it"),
        [b'7', b'z', 0xbc, 0xaf, ..] => Err("it is a 7z archive; unpack it and name the image in it"),
        [b'B', b'Z', b'h', ..] => Err("it is packed with bzip2; unpack it and name the image in it"),
        [] => Err("it is empty"),
        _ => Ok(Packing::None),
    }
}

/// The SHA-256 that the image must have.
fn expected(path: &Path, checksum: &Checksum) -> Result<Option<String>, ImageError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    match checksum {
        Checksum::Unchecked => Ok(None),
        Checksum::Given(text) if is_sha256(text) => Ok(Some(text.to_lowercase())),
        Checksum::Given(file) => listed(Path::new(file), &name).map(Some),
        Checksum::Beside => {
            let mut names = BESIDE.map(|ending| path.with_file_name(format!("{name}.{ending}"))).into_iter();
            let beside = names
                .find(|path| path.exists())
                .ok_or_else(|| ImageError::NoChecksum { path: path.to_owned(), beside: format!("{name}.sha256") })?;
            listed(&beside, &name).map(Some)
        }
    }
}

/// The checksum of `name` in a file as `sha256sum` writes it, or the only one there.
fn listed(file: &Path, name: &str) -> Result<String, ImageError> {
    let read = |source| ImageError::Read { path: file.to_owned(), source };
    let mut text = String::new();
    File::open(file).map_err(read)?.take(CHECKSUMS_BYTES_MAX).read_to_string(&mut text).map_err(read)?;
    let lines = text.lines().filter_map(|line| {
        let (sum, of) = line.trim().split_once(char::is_whitespace).unwrap_or((line.trim(), ""));
        is_sha256(sum).then(|| (sum.to_lowercase(), of.trim_start_matches([' ', '*']).to_owned()))
    });
    let lines: Vec<(String, String)> = lines.collect();
    let own = lines.iter().find(|(_, of)| of.rsplit('/').next() == Some(name));
    let only = || lines.first().filter(|(_, of)| lines.len() == 1 && of.is_empty());
    let found = own.or_else(only).map(|(sum, _)| sum.clone());
    found
        .ok_or_else(|| ImageError::NotAnImage { path: file.to_owned(), reason: format!("it has no SHA-256 of {name}") })
}

fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}
