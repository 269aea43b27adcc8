//! The ext4 partition of an image, by e2fsprogs.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{ImageError, tools};

/// An ext4 file system inside an image.
#[derive(Debug, Clone)]
pub struct Ext4 {
    image: PathBuf,
    offset_bytes: u64,
}

impl Ext4 {
    /// The one at `offset_bytes` of `image`.
    pub fn new(image: &Path, offset_bytes: u64) -> Self {
        Self { image: image.to_owned(), offset_bytes }
    }

    /// Bytes that files can still take.
    pub fn free_bytes(&self) -> Result<u64, ImageError> {
        let text = tools::said("dumpe2fs", tools::command("dumpe2fs").arg("-h").arg(self.name()))?;
        let text = String::from_utf8_lossy(&text);
        let number = |key: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(key))?;
            line.trim().parse::<u64>().ok()
        };
        let free = number("Free blocks:").zip(number("Block size:"));
        let reserved = number("Reserved block count:").unwrap_or(0);
        // What is kept for root is not for us: a full partition is a bad start.
        let free = free.map(|(blocks, size)| blocks.saturating_sub(reserved).saturating_mul(size));
        free.ok_or_else(|| ImageError::Tool { program: "dumpe2fs", reason: "it does not say what is free".to_owned() })
    }

    /// Whether it is sound. One that was not unmounted in order is mended by its journal first.
    pub fn check(&self) -> Result<(), ImageError> {
        let output = tools::output("e2fsck", tools::command("e2fsck").args(["-f", "-p"]).arg(self.name()))?;
        // e2fsck(8): 1 means that errors were corrected.
        if matches!(output.status.code(), Some(0 | 1)) {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&output.stdout);
        let reason = text.lines().find(|line| line.contains(':')).unwrap_or("the file system is damaged").to_owned();
        Err(ImageError::Tool { program: "e2fsck", reason: reason.replace(&self.name(), "the root partition") })
    }

    /// Fills its partition, after that has grown.
    pub fn grow(&self) -> Result<(), ImageError> {
        self.check()?;
        tools::said("resize2fs", tools::command("resize2fs").arg(self.name())).map(drop)
    }

    /// Whether there is a file; links are followed, as far as debugfs does.
    pub fn is_file(&self, path: &str) -> Result<bool, ImageError> {
        Ok(self.kind(path)?.is_some_and(|kind| matches!(kind.as_str(), "regular" | "symlink")))
    }

    /// Whether there is a directory.
    pub fn is_directory(&self, path: &str) -> Result<bool, ImageError> {
        Ok(self.kind(path)?.as_deref() == Some("directory"))
    }

    fn kind(&self, path: &str) -> Result<Option<String>, ImageError> {
        let text = self.ask(&format!("stat {path}"))?;
        let text = String::from_utf8_lossy(&text);
        Ok(text.split_once("Type: ").and_then(|(_, rest)| rest.split_whitespace().next().map(str::to_owned)))
    }

    /// The content of a file; empty if it is not there.
    pub fn read(&self, path: &str) -> Result<Vec<u8>, ImageError> {
        self.ask(&format!("cat {path}"))
    }

    /// Whether a file belongs to root and has these permission bits.
    pub fn is_roots(&self, path: &str, mode: u32) -> Result<bool, ImageError> {
        let text = self.ask(&format!("stat {path}"))?;
        let text = String::from_utf8_lossy(&text);
        let word = |key: &str| text.split_once(key).and_then(|(_, rest)| rest.split_whitespace().next());
        let bits = word("Mode:").and_then(|word| u32::from_str_radix(word, 8).ok());
        Ok(bits == Some(mode) && word("User:") == Some("0") && word("Group:") == Some("0"))
    }

    /// What a symbolic link says.
    pub fn link(&self, path: &str) -> Result<Option<String>, ImageError> {
        let text = self.ask(&format!("stat {path}"))?;
        let text = String::from_utf8_lossy(&text);
        let target = text.split_once("Fast link dest: \"").and_then(|(_, rest)| rest.split_once('"'));
        Ok(target.map(|(target, _)| target.to_owned()))
    }

    /// The names in a directory.
    pub fn list(&self, path: &str) -> Result<Vec<String>, ImageError> {
        let text = self.ask(&format!("ls -p {path}"))?;
        let text = String::from_utf8_lossy(&text);
        // "/INODE/MODE/UID/GID/NAME/SIZE/"
        Ok(text.lines().filter_map(|line| line.split('/').nth(5).map(str::to_owned)).collect())
    }

    /// Does all of `commands`, of debugfs. It tells no errors by its exit status: what matters is read back.
    pub fn change(&self, commands: &[String]) -> Result<(), ImageError> {
        let mut text = commands.join("\n").into_bytes();
        text.push(b'\n');
        tools::said_to("debugfs", debugfs().args(["-w", "-f", "-"]).arg(self.name()), &text).map(drop)
    }

    fn ask(&self, request: &str) -> Result<Vec<u8>, ImageError> {
        tools::said("debugfs", debugfs().arg("-R").arg(request).arg(self.name()))
    }

    fn name(&self) -> String {
        tools::within(&self.image, self.offset_bytes)
    }
}

fn debugfs() -> Command {
    let mut command = tools::command("debugfs");
    command.env("DEBUGFS_PAGER", "cat");
    command
}
