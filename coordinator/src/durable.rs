//! Files that are whole or not there, whatever happens while they are written.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, fchown};
use std::path::Path;

/// Puts `bytes` at `path`: written beside it, synced, renamed over it, and the directory synced. After a power cut there is
/// the old file or the new one.
///
/// What root writes belongs to whom the old file belonged, or else the directory: the coordinator runs as a user of its own, and must be
/// able to read what an administrator has made there.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not the path of a file"));
    };
    let beside = directory.join(format!(".{name}.new"));
    // What a cut left behind is of no use, and a link that somebody has put there leads elsewhere.
    match std::fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside)?;
    if rustix::process::geteuid().is_root() {
        let whose = std::fs::metadata(path).or_else(|_| std::fs::metadata(directory))?;
        fchown(&file, Some(whose.uid()), Some(whose.gid()))?;
    }
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&beside, path)?;
    sync_directory(directory)
}

/// Makes the names in a directory durable.
pub fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Makes a directory and those above it, for their owner alone, and makes the names durable. One that is there is left as it is.
pub fn create_directories(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    if path.is_dir() {
        return Ok(());
    }
    if let Some(above) = path.parent().filter(|above| !above.as_os_str().is_empty()) {
        create_directories(above)?;
    }
    match std::fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    match path.parent().filter(|above| !above.as_os_str().is_empty()) {
        Some(above) => sync_directory(above),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_as_a_whole_and_nothing_is_left_beside_it() {
        let directory = tempfile::tempdir().unwrap();
        let below = directory.path().join("a/b");
        create_directories(&below).unwrap();
        create_directories(&below).unwrap();
        let path = below.join("file");
        replace(&path, b"old and long", 0o600).unwrap();
        // What a cut before the rename leaves behind does no harm.
        std::fs::write(below.join(".file.new"), b"half").unwrap();
        replace(&path, b"new", 0o600).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert_eq!(std::fs::read_dir(&below).unwrap().count(), 1);
        assert!(replace(Path::new("/"), b"", 0o600).is_err());
    }

    #[test]
    fn a_link_that_lies_in_the_way_is_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let elsewhere = directory.path().join("elsewhere");
        std::fs::write(&elsewhere, "mine").unwrap();
        std::os::unix::fs::symlink(&elsewhere, directory.path().join(".file.new")).unwrap();
        replace(&directory.path().join("file"), b"new", 0o600).unwrap();
        assert_eq!(std::fs::read(&elsewhere).unwrap(), b"mine");
    }

    #[test]
    fn what_root_writes_belongs_to_whom_the_place_belongs() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("not tried: only root can give files away");
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        replace(&path, b"new", 0o600).unwrap();
        let owner = |path: &Path| std::fs::metadata(path).map(|metadata| (metadata.uid(), metadata.gid())).unwrap();
        std::os::unix::fs::chown(directory.path(), Some(4_001), Some(4_002)).unwrap();
        assert_eq!(owner(&path), (0, 0));
        replace(&directory.path().join("first"), b"", 0o600).unwrap();
        assert_eq!(owner(&directory.path().join("first")), (4_001, 4_002), "the directory's");
        std::os::unix::fs::chown(&path, Some(4_003), Some(4_004)).unwrap();
        replace(&path, b"newer", 0o600).unwrap();
        assert_eq!(owner(&path), (4_003, 4_004), "the old file's");
    }
}
