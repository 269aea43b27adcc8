//! The directory on the disk. What is not a plain file or directory of the shape that is known is refused, never followed.

use std::fs::{self, File, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crate::fleet::{ALL_BYTES_MAX, Desired, FILE_BYTES_MAX, FILES_MAX, Files, Problems};

/// Why a directory cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// The disk failed, or nothing is there.
    #[error("cannot {deed} {}", path.display())]
    Io {
        /// What was tried.
        deed: &'static str,
        /// Where.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Something that is no part of a fleet directory.
    #[error("{}: {rule}", path.display())]
    Refused {
        /// What.
        path: PathBuf,
        /// The rule that it breaks.
        rule: String,
    },
    /// Its files are wrong.
    #[error("the directory {} is not sound:\n{problems}", path.display())]
    Unsound {
        /// The directory.
        path: PathBuf,
        /// What is wrong.
        problems: Problems,
    },
}

/// Reads and understands a directory.
pub fn read(directory: &Path) -> Result<Desired, DirectoryError> {
    let mut found = Found::default();
    found.list(directory, directory)?;
    if found.files.is_empty() {
        let rule = "it has no fleet files; `orangery export` writes them from what is running".to_owned();
        return Err(refused(directory, rule));
    }
    Desired::parse(&found.files).map_err(|problems| DirectoryError::Unsound { path: directory.to_owned(), problems })
}

/// Whether a name is passed over: what belongs to git or an editor, and what is for people.
pub fn is_passed_over(name: &str) -> bool {
    name.starts_with('.') || Path::new(name).extension().is_some_and(|end| end == "md")
}

#[derive(Default)]
struct Found {
    files: Files,
    bytes: u64,
}

impl Found {
    /// Takes in one directory: the top, or one right below it.
    fn list(&mut self, top: &Path, directory: &Path) -> Result<(), DirectoryError> {
        for entry in fs::read_dir(directory).map_err(|source| io("list", directory, source))? {
            let entry = entry.map_err(|source| io("list", directory, source))?;
            let path = entry.path();
            let name = entry.file_name().into_string().map_err(|_| refused(&path, "its name is no text".to_owned()))?;
            if is_passed_over(&name) {
                continue;
            }
            let kind = entry.file_type().map_err(|source| io("look at", &path, source))?;
            if kind.is_symlink() {
                return Err(refused(
                    &path,
                    "it is a symlink, and none is followed: put the file itself here".to_owned(),
                ));
            } else if kind.is_dir() && directory == top {
                self.list(top, &path)?;
            } else if kind.is_file() {
                self.take(top, &path)?;
            } else {
                return Err(refused(
                    &path,
                    "a fleet directory has files in apps, groups and nodes, and nothing below".to_owned(),
                ));
            }
        }
        Ok(())
    }

    fn take(&mut self, top: &Path, path: &Path) -> Result<(), DirectoryError> {
        if self.files.len() >= FILES_MAX {
            return Err(refused(top, format!("it has more than {FILES_MAX} files")));
        }
        let text = text(path)?;
        self.bytes += text.len() as u64;
        if self.bytes > ALL_BYTES_MAX {
            return Err(refused(top, format!("its files have more than {ALL_BYTES_MAX} bytes")));
        }
        let name = path.strip_prefix(top).unwrap_or(path).to_string_lossy().into_owned();
        self.files.insert(name, text);
        Ok(())
    }
}

/// A file's text. A symlink or pipe that has taken its place meanwhile is neither followed nor waited for.
fn text(path: &Path) -> Result<String, DirectoryError> {
    let flags = (rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK).bits();
    let opened = OpenOptions::new().read(true).custom_flags(flags.cast_signed()).open(path);
    let file: File = opened.map_err(|source| io("open", path, source))?;
    if !file.metadata().map_err(|source| io("look at", path, source))?.is_file() {
        return Err(refused(path, "it is no file any more".to_owned()));
    }
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|source| io("read", path, source))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(refused(path, format!("it has more than {FILE_BYTES_MAX} bytes")));
    }
    String::from_utf8(bytes).map_err(|_| refused(path, "it is not UTF-8 text".to_owned()))
}

/// Whether a directory may be filled: it is not there, or has nothing but what begins with a dot.
pub fn check_room(directory: &Path) -> Result<(), DirectoryError> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(io("list", directory, source)),
    };
    for entry in entries {
        let entry = entry.map_err(|source| io("list", directory, source))?;
        if !entry.file_name().to_string_lossy().starts_with('.') {
            let rule = "it is not empty: export into a new directory, and compare".to_owned();
            return Err(refused(directory, rule));
        }
    }
    Ok(())
}

/// Writes files that are not there yet.
pub fn write(directory: &Path, files: &Files) -> Result<(), DirectoryError> {
    for below in ["apps", "groups", "nodes"] {
        let path = directory.join(below);
        fs::create_dir_all(&path).map_err(|source| io("make", &path, source))?;
    }
    for (name, text) in files {
        let path = directory.join(name);
        let written =
            File::create_new(&path).and_then(|mut file| std::io::Write::write_all(&mut file, text.as_bytes()));
        written.map_err(|source| io("write", &path, source))?;
    }
    Ok(())
}

fn io(deed: &'static str, path: &Path, source: std::io::Error) -> DirectoryError {
    DirectoryError::Io { deed, path: path.to_owned(), source }
}

/// Says by which rule something is no part of a fleet directory.
pub fn refused(path: &Path, rule: String) -> DirectoryError {
    DirectoryError::Refused { path: path.to_owned(), rule }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            let path = directory.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        directory
    }

    fn wrong(directory: &tempfile::TempDir) -> String {
        read(directory.path()).unwrap_err().to_string()
    }

    #[test]
    fn what_is_for_people_and_for_git_is_passed_over() {
        let files: [(&str, &[u8]); 4] =
            [("fleet.toml", b"format = 1\n"), ("README.md", b"\xff"), (".git/config", b"\xff"), ("apps/.x", b"\xff")];
        assert_eq!(read(directory(&files).path()).unwrap().fleet.format, Some(1));
    }

    #[test]
    fn links_depth_size_and_bytes_that_are_no_text_are_refused_by_name() {
        let linked = directory(&[("fleet.toml", b"")]);
        std::os::unix::fs::symlink("/etc/passwd", linked.path().join("channels.toml")).unwrap();
        assert!(wrong(&linked).contains("channels.toml: it is a symlink"), "{}", wrong(&linked));
        let linked = directory(&[("fleet.toml", b"")]);
        std::os::unix::fs::symlink("/etc", linked.path().join("apps")).unwrap();
        assert!(wrong(&linked).contains("apps: it is a symlink"), "{}", wrong(&linked));
        let deep = directory(&[("apps/web/web.toml", b"")]);
        assert!(wrong(&deep).contains("apps/web: a fleet directory has files"), "{}", wrong(&deep));
        let long = directory(&[("fleet.toml", &vec![b'#'; 1024 * 1024 + 1])]);
        assert!(wrong(&long).contains("fleet.toml: it has more than 1048576 bytes"), "{}", wrong(&long));
        assert!(wrong(&directory(&[("fleet.toml", b"\xff")])).contains("fleet.toml: it is not UTF-8 text"));
        assert!(wrong(&directory(&[])).contains("it has no fleet files"));
        let gone = read(Path::new("/nowhere/at/all")).unwrap_err();
        assert_eq!(gone.to_string(), "cannot list /nowhere/at/all");
    }

    #[test]
    fn a_huge_directory_is_refused_by_its_number_of_files_and_their_bytes() {
        let many = directory(&[("nodes/a.toml", b"")]);
        for k in 0..FILES_MAX {
            fs::write(many.path().join(format!("nodes/n{k}.toml")), b"").unwrap();
        }
        assert!(wrong(&many).contains("it has more than 20000 files"), "{}", wrong(&many));
        let much = directory(&[("nodes/a.toml", b"")]);
        for k in 0..33 {
            let file = File::create(much.path().join(format!("nodes/n{k}.toml"))).unwrap();
            file.set_len(FILE_BYTES_MAX).unwrap();
        }
        assert!(wrong(&much).contains("its files have more than 33554432 bytes"), "{}", wrong(&much));
    }

    #[test]
    fn nothing_that_is_there_is_written_over() {
        let full = directory(&[("notes.txt", b"")]);
        assert!(check_room(full.path()).unwrap_err().to_string().contains("it is not empty"));
        let fresh = directory(&[(".git/config", b"")]);
        check_room(fresh.path()).unwrap();
        let files: Files = [("apps/web.toml".to_owned(), "a".to_owned())].into();
        write(fresh.path(), &files).unwrap();
        assert!(write(fresh.path(), &files).is_err());
    }
}
