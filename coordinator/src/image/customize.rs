//! Writes into an unpacked image, and reads back what it wrote.

use std::collections::BTreeSet;
use std::path::Path;

use serde::Serialize;

use super::board::{self, Change, Changes, ENROLMENT, PRELOAD};
use super::ext4::Ext4;
use super::partitions::{self, Parts};
use super::{ImageError, Wish, tools};

/// What the file system takes for names and blocks besides the bytes themselves.
const AROUND_BYTES: u64 = 1 << 20;

/// What was changed in an image.
#[derive(Debug, Clone, Serialize)]
pub struct Customized {
    /// Files and links in the root partition that are new or other than before.
    pub written: Vec<String>,
    /// Files that are gone from it.
    pub removed: Vec<String>,
    /// Where the enrolment file lies, as the board sees it.
    pub enrolment: String,
    /// Bytes left in the root partition.
    pub free_bytes: u64,
}

/// Makes the unpacked image at `image` one of the node that `wish` describes. `stock` is its name for people, `grow_bytes` what
/// its root partition gets besides. After an error the image is of no use.
pub fn customize(image: &Path, stock: &Path, wish: &Wish, grow_bytes: u64) -> Result<Customized, ImageError> {
    let read = |path: &Path| std::fs::read(path).map_err(|source| ImageError::Read { path: path.to_owned(), source });
    let agent = wish.agent.as_deref().map(|path| Ok((path, read(path)?))).transpose()?;
    let mut parts = partitions::find(image, stock)?;
    if grow_bytes > 0 {
        grow(image, stock, &parts, grow_bytes)?;
        parts = partitions::find(image, stock)?;
    }
    let Parts { root, boot, .. } = parts;
    root.check()?;
    let mut changes = board::changes(&root, wish, agent, boot.is_some())?;
    for (name, path) in &wish.preload {
        changes.root.push(Change::File { path: format!("{PRELOAD}/{name}"), bytes: read(path)?, mode: 0o644 });
    }
    ensure_space(&root, &changes.root)?;
    apply(&root, &changes.root)?;
    let Changes { root: made, enrolment, on_fat } = changes;
    if let (true, Some(boot)) = (on_fat, &boot) {
        boot.write(ENROLMENT, enrolment.as_bytes())?;
    }
    root.check()?;
    verify(&root, &made)?;
    let paths = |removed: bool| {
        let of_kind = made.iter().filter(move |change| matches!(change, Change::Removed { .. }) == removed);
        of_kind.map(|change| change.path().to_owned()).collect()
    };
    let place = if on_fat { "boot partition: " } else { "/boot/" };
    Ok(Customized {
        written: paths(false),
        removed: paths(true),
        enrolment: format!("{place}{ENROLMENT}"),
        free_bytes: root.free_bytes()?,
    })
}

fn grow(image: &Path, stock: &Path, parts: &Parts, grow_bytes: u64) -> Result<(), ImageError> {
    let Some(number) = parts.growing else {
        let reason = "another partition lies behind its root partition".to_owned();
        return Err(ImageError::Unsupported { what: "more space", reason });
    };
    let write = |source| ImageError::Write { path: image.to_owned(), source };
    let file = std::fs::File::options().write(true).open(image).map_err(write)?;
    let length = file.metadata().map_err(write)?.len();
    file.set_len(length.saturating_add(grow_bytes)).map_err(write)?;
    // Of a GPT the copy at the end moves there first. An MBR has none, which is no error of ours.
    let _ = tools::output("sfdisk", tools::command("sfdisk").args(["--relocate", "gpt-bak-std"]).arg(image))?;
    let mut sfdisk = tools::command("sfdisk");
    sfdisk.args(["--no-reread", "--no-tell-kernel", "-N", &number.to_string()]).arg(image);
    tools::said_to("sfdisk", &mut sfdisk, b", +\n")?;
    partitions::find(image, stock)?.root.grow()
}

fn ensure_space(root: &Ext4, changes: &[Change]) -> Result<(), ImageError> {
    let bytes = changes.iter().map(|change| match change {
        Change::File { bytes, .. } => bytes.len() as u64,
        Change::Link { .. } | Change::Removed { .. } => 0,
    });
    let needed_bytes = bytes.fold(AROUND_BYTES, u64::saturating_add);
    let free_bytes = root.free_bytes()?;
    if needed_bytes > free_bytes {
        return Err(ImageError::PartitionFull { free_bytes, needed_bytes });
    }
    Ok(())
}

fn apply(root: &Ext4, changes: &[Change]) -> Result<(), ImageError> {
    let place = tempfile::tempdir().map_err(|source| ImageError::Write { path: std::env::temp_dir(), source })?;
    let mut commands = directories(root, changes)?;
    for (number, change) in changes.iter().enumerate() {
        // What was there goes first: debugfs writes over nothing.
        commands.push(format!("rm {}", change.path()));
        match change {
            Change::File { path, bytes, mode } => {
                let source = place.path().join(number.to_string());
                std::fs::write(&source, bytes)
                    .map_err(|error| ImageError::Write { path: source.clone(), source: error })?;
                commands.push(format!("write \"{}\" {path}", source.display()));
                commands.extend(owned(path, 0o100_000 | mode));
            }
            Change::Link { path, target } => commands.push(format!("symlink {path} {target}")),
            Change::Removed { .. } => {}
        }
    }
    root.change(&commands)
}

/// Commands that make the directories that are missing.
fn directories(root: &Ext4, changes: &[Change]) -> Result<Vec<String>, ImageError> {
    let mut wanted = BTreeSet::new();
    for change in changes.iter().filter(|change| !matches!(change, Change::Removed { .. })) {
        let places = change.path().match_indices('/').map(|(at, _)| at).filter(|at| *at > 0);
        wanted.extend(places.filter_map(|at| change.path().get(..at)));
    }
    let mut commands = Vec::new();
    for path in wanted {
        if !root.is_directory(path)? {
            let mode = if path.ends_with("/.ssh") { 0o700 } else { 0o755 };
            commands.push(format!("mkdir {path}"));
            commands.extend(owned(path, 0o40_000 | mode));
        }
    }
    Ok(commands)
}

/// Commands that give an inode to root.
fn owned(path: &str, mode: u32) -> [String; 3] {
    [format!("sif {path} mode 0{mode:o}"), format!("sif {path} uid 0"), format!("sif {path} gid 0")]
}

/// Whether everything is there as it should be.
fn verify(root: &Ext4, changes: &[Change]) -> Result<(), ImageError> {
    for change in changes {
        let right = match change {
            Change::File { path, bytes, mode } => root.is_roots(path, *mode)? && root.read(path)? == *bytes,
            Change::Link { path, target } => root.link(path)?.as_deref() == Some(target),
            Change::Removed { path } => !root.is_file(path)?,
        };
        if !right {
            return Err(ImageError::NotWritten { subject: change.path().to_owned() });
        }
    }
    Ok(())
}
