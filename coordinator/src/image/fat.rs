//! The FAT partition of an image, by mtools.

use std::path::{Path, PathBuf};

use super::{ImageError, tools};

/// A FAT file system inside an image.
#[derive(Debug, Clone)]
pub struct Fat {
    image: PathBuf,
    offset_bytes: u64,
}

impl Fat {
    /// The one at `offset_bytes` of `image`.
    pub fn new(image: &Path, offset_bytes: u64) -> Self {
        Self { image: image.to_owned(), offset_bytes }
    }

    /// Writes a file into the top directory and reads it back.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), ImageError> {
        let target = format!("::/{name}");
        tools::said_to("mcopy", self.command("mcopy").args(["-o", "-", &target]), bytes)?;
        let found = tools::said("mtype", self.command("mtype").arg(&target))?;
        if found == bytes { Ok(()) } else { Err(ImageError::NotWritten { subject: format!("boot partition: {name}") }) }
    }

    fn command(&self, program: &str) -> std::process::Command {
        let mut command = tools::command(program);
        // Images are not disks: their geometry need not add up.
        command.env("MTOOLS_SKIP_CHECK", "1");
        command.arg("-i").arg(format!("{}@@{}", self.image.display(), self.offset_bytes));
        command
    }
}
