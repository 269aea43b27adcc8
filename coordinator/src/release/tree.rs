//! What is in a directory that becomes a platform's tree. Whatever a tree cannot hold is refused here, by its path on
//! this machine and with what to do about it.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use orangery_wire::limits::TREE_ENTRIES_MAX;
use orangery_wire::manifest::check_path;

/// One entry of the directory, by its path relative to it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Found {
    /// Relative to the directory, `/` between the parts.
    pub path: String,
    /// What it is.
    pub kind: Kind,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A regular file.
    File {
        /// Its size when it was found.
        size_bytes: u64,
        /// Whether anybody may execute it.
        executable: bool,
    },
    /// A directory.
    Directory,
    /// A link to something within the directory.
    Link {
        /// Relative to the link's own directory, straight to the file or directory that it leads to in the end.
        target: String,
    },
}

/// Why a directory cannot become a tree.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// It, or something in it, cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// What.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is no directory.
    #[error("{path} is not a directory; name the directory that holds the platform's files")]
    NotADirectory {
        /// What was named.
        path: PathBuf,
    },
    /// It holds something that a tree cannot hold.
    #[error("{path} cannot be in a release: {rule}")]
    Refused {
        /// What.
        path: PathBuf,
        /// Why not, and what to do.
        rule: String,
    },
    /// It holds more than a tree may.
    #[error("{path} has more than {TREE_ENTRIES_MAX} files, directories and links; pack some of them into one file")]
    TooMany {
        /// The directory.
        path: PathBuf,
    },
}

/// Everything in `root`, sorted by path.
pub fn walk(root: &Path) -> Result<Vec<Found>, TreeError> {
    let read = |source| TreeError::Read { path: root.to_owned(), source };
    let real_root = root.canonicalize().map_err(read)?;
    if !real_root.is_dir() {
        return Err(TreeError::NotADirectory { path: root.to_owned() });
    }
    let mut found = Vec::new();
    let mut directories = vec![(real_root.clone(), String::new())];
    while let Some((directory, prefix)) = directories.pop() {
        let read = |source| TreeError::Read { path: directory.clone(), source };
        for entry in fs::read_dir(&directory).map_err(read)? {
            let place = entry.map_err(read)?.path();
            let path = relative_path(&place, &prefix)?;
            let kind = kind_of(&place, &real_root)?;
            if kind == Kind::Directory {
                directories.push((place, format!("{path}/")));
            }
            found.push(Found { path, kind });
            if found.len() > TREE_ENTRIES_MAX {
                return Err(TreeError::TooMany { path: root.to_owned() });
            }
        }
    }
    found.sort();
    Ok(found)
}

fn refused(place: &Path, rule: impl Into<String>) -> TreeError {
    TreeError::Refused { path: place.to_owned(), rule: rule.into() }
}

fn relative_path(place: &Path, prefix: &str) -> Result<String, TreeError> {
    let name = place.file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| refused(place, "its name is not UTF-8; rename it"))?;
    let path = format!("{prefix}{name}");
    check_path(&path).map_err(|rule| refused(place, format!("{rule}; rename it")))?;
    Ok(path)
}

fn kind_of(place: &Path, root: &Path) -> Result<Kind, TreeError> {
    let metadata = fs::symlink_metadata(place).map_err(|source| TreeError::Read { path: place.to_owned(), source })?;
    let mode = metadata.permissions().mode();
    if metadata.is_symlink() {
        return Ok(Kind::Link { target: link_target(place, root)? });
    }
    for (bit, name, remedy) in [(0o4000, "setuid", "u-s"), (0o2000, "setgid", "g-s"), (0o1000, "sticky", "-t")] {
        if mode & bit != 0 {
            let rule = format!("it has the {name} bit; take it away with `chmod {remedy} {}`", place.display());
            return Err(refused(place, rule));
        }
    }
    if metadata.is_dir() {
        Ok(Kind::Directory)
    } else if metadata.is_file() {
        Ok(Kind::File { size_bytes: metadata.len(), executable: mode & 0o111 != 0 })
    } else {
        let rule = format!("it is {}, and a release holds files, directories and links; remove it", special(&metadata));
        Err(refused(place, rule))
    }
}

fn special(metadata: &Metadata) -> &'static str {
    let kind = metadata.file_type();
    match () {
        () if kind.is_socket() => "a socket",
        () if kind.is_fifo() => "a named pipe",
        () if kind.is_block_device() || kind.is_char_device() => "a device node",
        () => "none of the known kinds of file",
    }
}

/// Where a link leads in the end, said from the link's own directory. A manifest allows no link to a link, so a chain
/// (`libx.so` to `libx.so.1` to `libx.so.1.2`) becomes links to its last file.
fn link_target(place: &Path, root: &Path) -> Result<String, TreeError> {
    let says = fs::read_link(place).map_err(|source| TreeError::Read { path: place.to_owned(), source })?;
    if says.is_absolute() {
        let rule =
            format!("it is a link to the absolute path {}; make it a relative link within the tree", says.display());
        return Err(refused(place, rule));
    }
    let says = says.display();
    let end = place.canonicalize();
    let end =
        end.map_err(|e| refused(place, format!("it is a link to {says}, which cannot be reached ({e}); remove it")))?;
    let inside = end.strip_prefix(root).ok().filter(|inside| !inside.as_os_str().is_empty());
    let rule = || format!("it is a link that leads out of the tree, to {says}; copy the file itself into the tree");
    let inside = inside.ok_or_else(|| refused(place, rule()))?;
    let from = place.parent().and_then(|parent| parent.strip_prefix(root).ok()).unwrap_or(Path::new(""));
    let shared = from.components().zip(inside.components()).take_while(|(a, b)| a == b).count();
    let ups = std::iter::repeat_n("..".as_ref(), from.components().count() - shared);
    let names = inside.components().skip(shared).map(std::path::Component::as_os_str);
    let target: PathBuf = ups.chain(names).collect();
    let target = if target.as_os_str().is_empty() { PathBuf::from(".") } else { target };
    target
        .into_os_string()
        .into_string()
        .map_err(|_| refused(place, "it leads to a name that is not UTF-8; rename that"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn directory() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    type Make<'a> = &'a dyn Fn(&Path);

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn entries_come_sorted_by_their_whole_path() {
        let root = directory();
        fs::create_dir_all(root.path().join("a/deep")).unwrap();
        for file in ["a/z", "a-b", "a/deep/x"] {
            fs::write(root.path().join(file), "1234").unwrap();
        }
        set_mode(&root.path().join("a-b"), 0o755);
        let found = walk(root.path()).unwrap();
        let paths: Vec<&str> = found.iter().map(|f| f.path.as_str()).collect();
        assert_eq!(paths, ["a", "a-b", "a/deep", "a/deep/x", "a/z"]);
        assert_eq!(found[1].kind, Kind::File { size_bytes: 4, executable: true });
        assert_eq!(found[4].kind, Kind::File { size_bytes: 4, executable: false });
    }

    #[test]
    fn a_chain_of_links_becomes_links_to_its_end() {
        let root = directory();
        fs::create_dir_all(root.path().join("lib/deep")).unwrap();
        fs::create_dir_all(root.path().join("bin")).unwrap();
        fs::write(root.path().join("lib/libx.so.1.2"), "").unwrap();
        symlink("libx.so.1.2", root.path().join("lib/libx.so.1")).unwrap();
        symlink("libx.so.1", root.path().join("lib/libx.so")).unwrap();
        symlink("../lib/deep/../libx.so", root.path().join("bin/x")).unwrap();
        let found = walk(root.path()).unwrap();
        let links: Vec<(&str, &str)> = found
            .iter()
            .filter_map(|f| match &f.kind {
                Kind::Link { target } => Some((f.path.as_str(), target.as_str())),
                _ => None,
            })
            .collect();
        let expected =
            [("bin/x", "../lib/libx.so.1.2"), ("lib/libx.so", "libx.so.1.2"), ("lib/libx.so.1", "libx.so.1.2")];
        assert_eq!(links, expected);
    }

    #[test]
    fn what_a_tree_cannot_hold_is_named_with_a_remedy() {
        let pipe = |p: &Path| {
            rustix::fs::mknodat(rustix::fs::CWD, p, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0).unwrap();
        };
        let file = |p: &Path, mode: u32| {
            fs::write(p, "x").unwrap();
            set_mode(p, mode);
        };
        let cases: [(Make, &str); 8] = [
            (&|p| file(p, 0o4755), "chmod u-s"),
            (&|p| file(p, 0o2755), "chmod g-s"),
            (&|p| file(p, 0o1644), "chmod -t"),
            (&pipe, "a named pipe"),
            (&|p| drop(std::os::unix::net::UnixListener::bind(p).unwrap()), "a socket"),
            (&|p| symlink("/etc/passwd", p).unwrap(), "absolute path /etc/passwd"),
            (&|p| symlink("../../../../../../../etc/passwd", p).unwrap(), "leads out of the tree"),
            (&|p| symlink("nowhere", p).unwrap(), "cannot be reached"),
        ];
        for (make, named) in cases {
            let root = directory();
            fs::create_dir(root.path().join("sub")).unwrap();
            make(&root.path().join("sub/bad"));
            let refused = walk(root.path()).unwrap_err().to_string();
            assert!(refused.contains("sub/bad") && refused.contains(named), "{named}: {refused}");
        }
    }

    #[test]
    fn a_name_that_is_not_utf_8_or_not_printable_is_refused() {
        use std::os::unix::ffi::OsStrExt as _;
        for name in [&b"\xff\xfe"[..], b"a\nb", b"back\\slash"] {
            let root = directory();
            fs::write(root.path().join(std::ffi::OsStr::from_bytes(name)), "").unwrap();
            let refused = walk(root.path()).unwrap_err().to_string();
            assert!(refused.ends_with("rename it"), "{refused}");
        }
    }

    #[test]
    fn a_directory_that_is_none_is_refused() {
        let root = directory();
        let file = root.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(matches!(walk(&file), Err(TreeError::NotADirectory { .. })));
        assert!(matches!(walk(&root.path().join("missing")), Err(TreeError::Read { .. })));
    }
}
