//! Everything below a directory, as one text: two of them are equal only if nothing came, went or changed.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::origin::sha256;

/// Kind, mode, owner, count of names, content or target of each name below `directory`. No link is followed. What lies
/// below `but` is left out.
pub fn surroundings(directory: &Path, but: Option<&Path>) -> String {
    let mut lines = Vec::new();
    let mut open = vec![directory.to_owned()];
    while let Some(path) = open.pop() {
        if but == Some(&path) {
            continue;
        }
        let found = fs::symlink_metadata(&path).unwrap();
        let what = match found.file_type() {
            kind if kind.is_file() => sha256(&fs::read(&path).unwrap()).to_string(),
            kind if kind.is_symlink() => fs::read_link(&path).unwrap().display().to_string(),
            kind if kind.is_dir() => {
                open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
                "directory".to_owned()
            }
            kind => format!("{kind:?}"),
        };
        let names = if found.is_dir() { 0 } else { found.nlink() };
        lines.push(format!("{} {:o} {}:{} {names} {what}", path.display(), found.mode(), found.uid(), found.gid()));
    }
    lines.sort();
    lines.join("\n")
}
