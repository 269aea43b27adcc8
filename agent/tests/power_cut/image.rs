//! A file system in memory that knows of every name and every byte whether a power cut may take it.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

pub use crate::op::Op;

pub type Inode = usize;
pub type Names = BTreeMap<OsString, Inode>;

/// The bytes of a file, with their hash.
#[derive(Debug)]
pub struct Content {
    pub bytes: Vec<u8>,
    pub hash: u64,
}

impl Content {
    pub fn new(bytes: Vec<u8>) -> Arc<Self> {
        let hash = hash_of(&bytes);
        Arc::new(Self { bytes, hash })
    }
}

pub fn hash_of(what: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}

/// A write, or a change of length, that was not synced.
#[derive(Debug, Clone)]
pub enum Change {
    Write { offset: usize, bytes: Arc<[u8]> },
    Length(usize),
}

#[derive(Debug, Clone)]
pub enum Node {
    File { mode: u32, now: Arc<Content>, synced: Arc<Content>, changes: Vec<Change> },
    Directory { mode: u32, names: Arc<Names>, synced: Arc<Names>, changes: Vec<(usize, OsString, Option<Inode>)> },
    Link { target: PathBuf },
}

/// All nodes; the first is the state directory.
#[derive(Debug, Clone)]
pub struct Image {
    pub nodes: Vec<Node>,
    /// Numbers changes of names.
    serial: usize,
}

pub const ROOT: Inode = 0;

impl Default for Image {
    fn default() -> Self {
        Self { nodes: vec![directory(0o755)], serial: 0 }
    }
}

/// What a directory leads to, or may lead to after a power cut.
fn named_in(node: &Node) -> Vec<Inode> {
    match node {
        Node::Directory { names, synced, changes, .. } => {
            let changed = changes.iter().filter_map(|(_, _, inode)| *inode);
            names.values().chain(synced.values()).copied().chain(changed).collect()
        }
        Node::File { .. } | Node::Link { .. } => Vec::new(),
    }
}

fn directory(mode: u32) -> Node {
    Node::Directory { mode, names: Arc::default(), synced: Arc::default(), changes: Vec::new() }
}

pub fn file(bytes: Vec<u8>, mode: u32) -> Node {
    let now = Content::new(bytes);
    Node::File { mode, synced: now.clone(), now, changes: Vec::new() }
}

pub fn set(names: &mut Names, name: &OsStr, inode: Option<Inode>) {
    match inode {
        Some(inode) => drop(names.insert(name.to_owned(), inode)),
        None => drop(names.remove(name)),
    }
}

/// Makes the change; what lies between the end and an offset beyond it is zero.
pub fn change(bytes: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Length(length) => bytes.resize(*length, 0),
        Change::Write { offset, bytes: new } => {
            let end = offset + new.len();
            if bytes.len() < end {
                bytes.resize(end, 0);
            }
            bytes[*offset..end].copy_from_slice(new);
        }
    }
}

impl Image {
    pub fn find(&self, path: &Path) -> Option<Inode> {
        let mut inode = ROOT;
        for part in path.components() {
            let Component::Normal(name) = part else { continue };
            inode = *self.names(inode)?.get(name)?;
        }
        Some(inode)
    }

    pub fn names(&self, inode: Inode) -> Option<&Names> {
        if let Node::Directory { names, .. } = &self.nodes[inode] { Some(names) } else { None }
    }

    pub fn node(&self, path: &Path) -> Option<&Node> {
        self.find(path).map(|inode| &self.nodes[inode])
    }

    /// What a reader of this path finds, as a number; `None` if there is nothing.
    pub fn seen(&self, path: &Path) -> Option<u64> {
        self.find(path).and_then(|inode| self.seen_of(inode))
    }

    fn seen_of(&self, inode: Inode) -> Option<u64> {
        self.nodes.get(inode).map(|node| match node {
            Node::File { now, mode, .. } => hash_of(&(now.hash, mode)),
            Node::Link { target } => hash_of(target),
            Node::Directory { mode, .. } => u64::from(*mode),
        })
    }

    /// The same after a power cut that takes every unsynced name of its directory.
    pub fn seen_if_cut(&self, path: &Path) -> Option<u64> {
        let (parent, name) = self.parent(path).ok()?;
        let Node::Directory { synced, .. } = &self.nodes[parent] else { return None };
        self.seen_of(*synced.get(name)?)
    }

    /// Adds a node that is durable, for what was there before.
    pub fn place(&mut self, path: &Path, node: Node) {
        let inode = self.nodes.len();
        let (parent, name) = self.parent(path).unwrap();
        self.nodes.push(node);
        let Node::Directory { names, synced, .. } = &mut self.nodes[parent] else { panic!("{}", path.display()) };
        Arc::make_mut(names).insert(name.to_owned(), inode);
        *synced = names.clone();
    }

    pub fn place_directory(&mut self, path: &Path, mode: u32) {
        self.place(path, directory(mode));
    }

    pub fn set_mode(&mut self, inode: Inode, new: u32) {
        if let Node::File { mode, .. } | Node::Directory { mode, .. } = &mut self.nodes[inode] {
            *mode = new;
        }
    }

    fn parent<'a>(&self, path: &'a Path) -> Result<(Inode, &'a OsStr), String> {
        let name = path.file_name().ok_or_else(|| format!("{} has no name", path.display()))?;
        let above = path.parent().unwrap_or(Path::new(""));
        let inode = self.find(above).ok_or_else(|| format!("{} is not there", above.display()))?;
        Ok((inode, name))
    }

    fn rename_to(&mut self, path: &Path, inode: Option<Inode>) -> Result<(), String> {
        let (parent, name) = self.parent(path)?;
        self.serial += 1;
        let serial = self.serial;
        let Node::Directory { names, changes, .. } = &mut self.nodes[parent] else {
            return Err(format!("{} is not in a directory", path.display()));
        };
        set(Arc::make_mut(names), name, inode);
        changes.push((serial, name.to_owned(), inode));
        Ok(())
    }

    fn add(&mut self, path: &Path, node: Node) -> Result<(), String> {
        if self.find(path).is_some() {
            return Err(format!("{} is there already", path.display()));
        }
        self.nodes.push(node);
        self.rename_to(path, Some(self.nodes.len() - 1))
    }

    fn there(&self, path: &Path) -> Result<Inode, String> {
        self.find(path).ok_or_else(|| format!("{} is not there", path.display()))
    }

    fn edit(&mut self, path: &Path, edit: impl FnOnce(usize) -> Change) -> Result<(), String> {
        let inode = self.there(path)?;
        let Node::File { now, changes, .. } = &mut self.nodes[inode] else {
            return Err(format!("{} is not a file", path.display()));
        };
        let edit = edit(now.bytes.len());
        let mut bytes = now.bytes.clone();
        change(&mut bytes, &edit);
        *now = Content::new(bytes);
        changes.push(edit);
        Ok(())
    }

    /// Does what `op` says, in memory alone unless it is a sync. An error means that it cannot have been done on this disk.
    pub fn apply(&mut self, op: &Op) -> Result<(), String> {
        match op {
            Op::Create { path, mode } => self.add(path, file(Vec::new(), *mode)),
            Op::Write { path, offset, bytes } => {
                self.edit(path, |length| Change::Write { offset: offset.unwrap_or(length), bytes: bytes.clone() })
            }
            Op::Truncate { path, length } => self.edit(path, |_| Change::Length(*length)),
            Op::Chmod { path, mode } => {
                let inode = self.there(path)?;
                self.set_mode(inode, *mode);
                Ok(())
            }
            Op::Mkdir { path, mode } => self.add(path, directory(*mode)),
            Op::Symlink { path, target } => self.add(path, Node::Link { target: target.clone() }),
            Op::Rename { from, to } => {
                let inode = self.there(from)?;
                if self.find(to) == Some(inode) {
                    return Ok(());
                }
                self.rename_to(to, Some(inode))?;
                self.rename_to(from, None)
            }
            Op::Link { from, to } => {
                let inode = self.there(from)?;
                if self.find(to).is_some() {
                    return Err(format!("{} is there already", to.display()));
                }
                self.rename_to(to, Some(inode))
            }
            Op::Remove { path } => {
                self.there(path)?;
                self.rename_to(path, None)
            }
            Op::SyncFile { path } | Op::SyncDir { path } => {
                let inode = self.there(path)?;
                self.sync(inode);
                Ok(())
            }
            Op::Mark(_) | Op::Nothing => Ok(()),
        }
    }

    pub fn sync(&mut self, inode: Inode) {
        match &mut self.nodes[inode] {
            Node::File { now, synced, changes, .. } => {
                synced.clone_from(now);
                changes.clear();
            }
            Node::Directory { names, synced, changes, .. } => {
                synced.clone_from(names);
                changes.clear();
            }
            Node::Link { .. } => {}
        }
    }

    /// Whether a power cut leaves of both the same, and always will if the same is done to both.
    pub fn is_as_durable_as(&self, other: &Self) -> bool {
        let same = |(one, other): (&Node, &Node)| match (one, other) {
            (Node::File { now, synced, changes, .. }, Node::File { now: n, synced: s, changes: c, .. }) => {
                now.hash == n.hash && synced.hash == s.hash && changes.len() == c.len()
            }
            (
                Node::Directory { names, synced, changes, .. },
                Node::Directory { names: n, synced: s, changes: c, .. },
            ) => names == n && synced == s && changes.len() == c.len(),
            (Node::Link { target }, Node::Link { target: t }) => target == t,
            _ => false,
        };
        let named = |image: &Self| -> BTreeSet<Inode> { image.nodes.iter().flat_map(named_in).chain([ROOT]).collect() };
        let (ours, theirs) = (named(self), named(other));
        let pair = |inode: &Inode| self.nodes.get(*inode).zip(other.nodes.get(*inode));
        ours == theirs && ours.iter().all(|inode| pair(inode).is_some_and(same))
    }

    /// Makes everything durable as it is.
    pub fn settle(&mut self) {
        (0..self.nodes.len()).for_each(|inode| self.sync(inode));
    }

    /// Stands for all that can be read: names, kinds, modes, contents, and which names are of one file.
    pub fn digest(&self) -> u64 {
        self.digest_of(Path::new(""))
    }

    /// The same of what is below one path.
    pub fn digest_of(&self, path: &Path) -> u64 {
        let mut hasher = DefaultHasher::new();
        let mut seen = BTreeMap::new();
        match self.find(path) {
            Some(inode) => self.hash(inode, &mut hasher, &mut seen),
            None => 0_u8.hash(&mut hasher),
        }
        hasher.finish()
    }

    fn hash(&self, inode: Inode, hasher: &mut DefaultHasher, seen: &mut BTreeMap<Inode, usize>) {
        let order = seen.len();
        if let Some(earlier) = seen.insert(inode, order) {
            seen.insert(inode, earlier);
            return (9_u8, earlier).hash(hasher);
        }
        match &self.nodes[inode] {
            Node::File { mode, now, .. } => (1_u8, mode, now.hash).hash(hasher),
            Node::Link { target } => (2_u8, target).hash(hasher),
            Node::Directory { mode, names, .. } => {
                (3_u8, mode, names.len()).hash(hasher);
                for (name, inode) in names.iter() {
                    name.hash(hasher);
                    self.hash(*inode, hasher, seen);
                }
            }
        }
    }

    /// This image with nothing in the state directory but these names.
    pub fn only(&self, kept: &[&str]) -> Self {
        let mut image = self.clone();
        if let Node::Directory { names, synced, changes, .. } = &mut image.nodes[ROOT] {
            Arc::make_mut(names).retain(|name, _| kept.iter().any(|kept| name == kept));
            synced.clone_from(names);
            changes.clear();
        }
        image
    }

    /// Every path below the state directory, with its node, parents first.
    pub fn walk(&self) -> Vec<(PathBuf, &Node)> {
        let mut found = Vec::new();
        self.walk_into(ROOT, Path::new(""), &mut found);
        found
    }

    fn walk_into<'a>(&'a self, inode: Inode, path: &Path, found: &mut Vec<(PathBuf, &'a Node)>) {
        for (name, inode) in self.names(inode).into_iter().flatten() {
            let path = path.join(name);
            found.push((path.clone(), &self.nodes[*inode]));
            self.walk_into(*inode, &path, found);
        }
    }
}
