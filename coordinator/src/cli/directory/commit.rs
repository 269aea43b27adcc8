//! The directory as a commit has it: read from the repository's objects, never from a checkout that somebody may be editing.

use std::path::{Path, PathBuf};

use super::files::{DirectoryError, is_passed_over, refused};
use super::git::{Git, GitError};
use crate::fleet::{ALL_BYTES_MAX, Desired, FILE_BYTES_MAX, FILES_MAX, Files};

/// Why a directory of a commit cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// Git cannot say; it may later.
    #[error(transparent)]
    Git(#[from] GitError),
    /// The commit is wrong, and stays so.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
}

/// A file of a commit, before it is read.
#[derive(Debug, PartialEq, Eq)]
struct Listed {
    /// Its path in the directory.
    name: String,
    object: String,
    size_bytes: u64,
}

/// Reads and understands the directory that is the tree `tree`. `place` stands before names in texts.
pub async fn read(git: &Git, tree: &str, place: &Path) -> Result<Desired, CommitError> {
    let list = git.bytes(&["ls-tree", "-r", "-l", "-z", "--full-tree", tree]).await.map_err(|error| match error {
        GitError::Long { .. } => {
            refused(place, format!("it has more files than can be listed; at most {FILES_MAX} are taken")).into()
        }
        other => CommitError::Git(other),
    })?;
    let listed = listed(&list, place)?;
    if listed.is_empty() {
        return Err(refused(place, "it has no fleet files".to_owned()).into());
    }
    let wanted: String = listed.iter().flat_map(|file| [file.object.as_str(), "\n"]).collect();
    // Before each object stands a line with its id, kind and size.
    let bytes_max = ALL_BYTES_MAX + listed.len() as u64 * 128;
    let content = git.exchange(&["cat-file", "--batch"], wanted.as_bytes(), bytes_max).await?;
    let files = contents(&listed, &content, place)?;
    Desired::parse(&files)
        .map_err(|problems| DirectoryError::Unsound { path: place.to_owned(), problems })
        .map_err(CommitError::Directory)
}

/// The files in what `ls-tree -r -l -z` says. What is no plain file of the shape that is known is refused, and what is too large,
/// before a byte of it is read.
fn listed(list: &[u8], place: &Path) -> Result<Vec<Listed>, CommitError> {
    let unknown = || GitError::Answer { deed: "ls-tree".to_owned() };
    let (mut all, mut bytes) = (Vec::new(), 0_u64);
    for entry in list.split(|byte| *byte == 0).filter(|entry| !entry.is_empty()) {
        let tab = entry.iter().position(|byte| *byte == b'\t').ok_or_else(unknown)?;
        let (about, name) = entry.split_at(tab);
        let about = std::str::from_utf8(about).map_err(|_| unknown())?;
        let name = name.get(1..).ok_or_else(unknown)?;
        let Ok(name) = std::str::from_utf8(name) else {
            let path = place.join(String::from_utf8_lossy(name).as_ref());
            return Err(refused(&path, "its name is no text".to_owned()).into());
        };
        if name.split('/').any(is_passed_over) {
            continue;
        }
        let [mode, _, object, size] = about.split_whitespace().collect::<Vec<_>>()[..] else {
            return Err(unknown().into());
        };
        check_shape(mode, &place.join(name), name)?;
        let size_bytes: u64 = size.parse().map_err(|_| unknown())?;
        bytes = bytes.saturating_add(size_bytes);
        check_size(size_bytes, bytes, all.len(), place, name)?;
        all.push(Listed { name: name.to_owned(), object: object.to_owned(), size_bytes });
    }
    Ok(all)
}

fn check_shape(mode: &str, path: &Path, name: &str) -> Result<(), DirectoryError> {
    let rule = match mode {
        "120000" => "it is a symlink, and none is followed: put the file itself here",
        "160000" => "it is a submodule, and none is followed: put the files themselves here",
        _ if name.split('/').count() > 2 => "a fleet directory has files in apps, groups and nodes, and nothing below",
        _ => return Ok(()),
    };
    Err(refused(path, rule.to_owned()))
}

fn check_size(size_bytes: u64, all_bytes: u64, count: usize, place: &Path, name: &str) -> Result<(), DirectoryError> {
    if count >= FILES_MAX {
        Err(refused(place, format!("it has more than {FILES_MAX} files")))
    } else if size_bytes > FILE_BYTES_MAX {
        Err(refused(&place.join(name), format!("it has more than {FILE_BYTES_MAX} bytes")))
    } else if all_bytes > ALL_BYTES_MAX {
        Err(refused(place, format!("its files have more than {ALL_BYTES_MAX} bytes")))
    } else {
        Ok(())
    }
}

/// The texts in what `cat-file --batch` says of the files, one after the other.
fn contents(listed: &[Listed], mut content: &[u8], place: &Path) -> Result<Files, CommitError> {
    let unknown = || GitError::Answer { deed: "cat-file".to_owned() };
    let mut files = Files::new();
    for file in listed {
        let expected = format!("{} blob {}\n", file.object, file.size_bytes);
        let rest = content.strip_prefix(expected.as_bytes()).ok_or_else(unknown)?;
        let size = usize::try_from(file.size_bytes).map_err(|_| unknown())?;
        let (text, rest) = rest.split_at_checked(size).ok_or_else(unknown)?;
        content = rest.strip_prefix(b"\n").ok_or_else(unknown)?;
        let Ok(text) = String::from_utf8(text.to_vec()) else {
            return Err(refused(&place.join(&file.name), "it is not UTF-8 text".to_owned()).into());
        };
        files.insert(file.name.clone(), text);
    }
    Ok(files)
}

/// How a directory of a commit is called in texts: `1a2b3c4d5e6f:fleet`.
pub fn place(commit: &str, path: &str) -> PathBuf {
    let short = commit.get(..12).unwrap_or(commit);
    if path.is_empty() { PathBuf::from(format!("{short}:.")) } else { PathBuf::from(format!("{short}:{path}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(mode: &str, size: &str, name: &str) -> String {
        format!("{mode} blob {:040} {size:>7}\t{name}\0", 7)
    }

    fn names(list: &str) -> Result<Vec<String>, String> {
        let listed = listed(list.as_bytes(), Path::new("1a2b:fleet")).map_err(|error| error.to_string())?;
        Ok(listed.into_iter().map(|file| file.name).collect())
    }

    #[test]
    fn what_is_for_people_and_for_git_is_passed_over_and_links_modules_and_depth_are_refused() {
        let fine = ["fleet.toml", "README.md", ".github/deep/x.yml", "apps/web.toml", "apps/.x"];
        let fine: String = fine.iter().map(|name| entry("100644", "3", name)).collect();
        assert_eq!(names(&fine).unwrap(), ["fleet.toml", "apps/web.toml"]);
        let check = |mode: &str, name: &str, rule: &str| {
            let wrong = names(&entry(mode, "3", name)).unwrap_err();
            assert!(wrong.contains(&format!("1a2b:fleet/{name}: ")) && wrong.contains(rule), "{wrong}");
        };
        check("120000", "apps/web.toml", "it is a symlink");
        check("160000", "apps", "it is a submodule");
        check("100644", "apps/web/web.toml", "nothing below");
        assert!(names("what is this?\0").unwrap_err().contains("`git ls-tree` answers what"));
    }

    #[test]
    fn a_huge_directory_is_refused_before_it_is_read() {
        let long = names(&entry("100644", "1048577", "fleet.toml")).unwrap_err();
        assert_eq!(long, "1a2b:fleet/fleet.toml: it has more than 1048576 bytes");
        let much: String = (0..33).map(|k| entry("100644", "1048576", &format!("nodes/n{k}.toml"))).collect();
        assert_eq!(names(&much).unwrap_err(), "1a2b:fleet: its files have more than 33554432 bytes");
        let many: String = (0..=FILES_MAX).map(|k| entry("100644", "1", &format!("nodes/n{k}.toml"))).collect();
        assert_eq!(names(&many).unwrap_err(), "1a2b:fleet: it has more than 20000 files");
    }

    #[test]
    fn what_is_not_what_was_listed_is_refused() {
        let file = |name: &str, size_bytes| Listed { name: name.to_owned(), object: "aa".to_owned(), size_bytes };
        let two = [file("a.toml", 3), file("b.toml", 2)];
        let read = |content: &str| contents(&two, content.as_bytes(), Path::new("1a2b:."));
        let files = read("aa blob 3\nx\ny\naa blob 2\nok\n").unwrap();
        assert_eq!(files.get("a.toml").map(String::as_str), Some("x\ny"));
        for wrong in ["", "aa missing\n", "aa blob 3\nx\ny\naa blob 2\no", "aa blob 9\nx\ny\naa blob 2\nok\n"] {
            assert!(read(wrong).is_err(), "{wrong:?}");
        }
    }
}
