//! Images from and to directories of this machine.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;

use crate::image::{Image, Node, ROOT, file};

/// Names that mean nothing without their process.
pub fn is_passing(path: &Path) -> bool {
    path == Path::new("agent.sock")
}

/// What lies in `directory`, all of it durable.
pub fn read(directory: &Path) -> Image {
    let mut image = Image::default();
    image.set_mode(ROOT, mode(directory));
    read_into(&mut image, directory, Path::new(""));
    image
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

fn read_into(image: &mut Image, directory: &Path, below: &Path) {
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let (path, below) = (entry.path(), below.join(entry.file_name()));
        let found = fs::symlink_metadata(&path).unwrap();
        if found.is_dir() {
            image.place_directory(&below, mode(&path));
            read_into(image, &path, &below);
        } else if found.is_symlink() {
            image.place(&below, Node::Link { target: fs::read_link(&path).unwrap() });
        } else if found.is_file() {
            image.place(&below, file(fs::read(&path).unwrap(), mode(&path)));
        } else {
            assert!(found.file_type().is_socket(), "{}", path.display());
        }
    }
}

/// Puts the image into an empty directory.
pub fn write(image: &Image, directory: &Path) {
    let mut modes = Vec::new();
    for (below, node) in image.walk() {
        let path = directory.join(&below);
        match node {
            Node::Directory { mode, .. } => {
                fs::create_dir(&path).unwrap();
                modes.push((path, *mode));
            }
            Node::Link { target } => std::os::unix::fs::symlink(target, &path).unwrap(),
            Node::File { mode, now, .. } => {
                fs::write(&path, &now.bytes).unwrap();
                modes.push((path, *mode));
            }
        }
    }
    for (path, mode) in modes.iter().rev() {
        fs::set_permissions(path, fs::Permissions::from_mode(*mode)).unwrap();
    }
}

/// Where two images differ, in words; nothing if they do not.
pub fn differences(one: &Image, other: &Image) -> Vec<String> {
    let words = |image: &Image| -> BTreeMap<_, _> {
        let words = image.walk().into_iter().filter(|(path, _)| !is_passing(path));
        words.map(|(path, node)| (path, describe(node))).collect()
    };
    let (one, other) = (words(one), words(other));
    let paths: std::collections::BTreeSet<_> = one.keys().chain(other.keys()).collect();
    let differ = paths.into_iter().filter(|path| one.get(*path) != other.get(*path));
    differ.map(|path| format!("{}: {:?} against {:?}", path.display(), one.get(path), other.get(path))).collect()
}

fn describe(node: &Node) -> String {
    match node {
        Node::File { mode, now, .. } => format!("file {mode:o}, {} bytes, {:x}", now.bytes.len(), now.hash),
        Node::Directory { mode, .. } => format!("directory {mode:o}"),
        Node::Link { target } => format!("link to {}", target.display()),
    }
}
