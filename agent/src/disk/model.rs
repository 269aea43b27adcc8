//! A disk in memory that knows what it has promised to keep.
//!
//! It records the state after every call. From each of them it makes every disk that a power cut could leave: of the names
//! changed in a directory since its last sync any subset is there (a rename is two such changes, either of which may be lost), and
//! a file that was not synced has its last synced content, its new one, the first half of it, or zeros of its length. This
//! is worse than any file system that is mounted with barriers.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::io::{self, Cursor, Read};
use std::path::{Component, Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Disk, Kind, Stat};

type Inode = usize;

/// The disk. Calls that change it are numbered from 0.
#[derive(Debug)]
pub struct ModelDisk {
    calls: Mutex<Calls>,
}

#[derive(Debug, Default)]
struct Calls {
    state: State,
    /// The state after each call that changed it.
    history: Vec<State>,
    /// The call that fails, half done if it is a write.
    failing: Option<usize>,
    /// The sync that is left out although it reports success.
    left_out: Option<usize>,
    syncs: usize,
    count: usize,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
struct State {
    nodes: Vec<Node>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Node {
    File { synced: Vec<u8>, bytes: Vec<u8>, mode: u32 },
    Directory { synced: Names, names: Names, changes: Vec<(OsString, Option<Inode>)>, mode: u32 },
    Link { target: PathBuf },
}

type Names = BTreeMap<OsString, Inode>;

const ROOT: Inode = 0;

impl Default for ModelDisk {
    fn default() -> Self {
        Self::of(State { nodes: vec![directory(0o755)] })
    }
}

fn directory(mode: u32) -> Node {
    Node::Directory { synced: Names::new(), names: Names::new(), changes: Vec::new(), mode }
}

fn missing() -> io::Error {
    io::ErrorKind::NotFound.into()
}

impl ModelDisk {
    fn of(state: State) -> Self {
        Self { calls: Mutex::new(Calls { state, ..Calls::default() }) }
    }

    fn calls(&self) -> MutexGuard<'_, Calls> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same content, all of it durable, with its calls counted anew.
    pub fn settled(&self) -> Self {
        let mut state = self.calls().state.clone();
        state.settle();
        Self::of(state)
    }

    /// This disk, on which call `n` fails.
    pub fn failing_at(self, n: usize) -> Self {
        self.calls().failing = Some(n);
        self
    }

    /// This disk, on which sync `n` does nothing and says that it did.
    pub fn leaving_out_sync(self, n: usize) -> Self {
        self.calls().left_out = Some(n);
        self
    }

    /// Calls so far that changed something or synced.
    pub fn count(&self) -> usize {
        self.calls().count
    }

    /// Syncs so far.
    pub fn syncs(&self) -> usize {
        self.calls().syncs
    }

    /// Every disk that a power cut during the calls so far could have left, without doubles.
    pub fn cuts(&self) -> Vec<Self> {
        let calls = self.calls();
        let mut states: BTreeSet<State> = calls.history.iter().flat_map(State::cuts).collect();
        states.extend(calls.state.cuts());
        states.into_iter().map(Self::of).collect()
    }

    /// Every disk that a power cut at this moment could leave.
    pub fn cuts_now(&self) -> Vec<Self> {
        self.calls().state.cuts().into_iter().map(Self::of).collect()
    }

    fn change<T>(&self, change: impl FnOnce(&mut State, bool) -> io::Result<T>) -> io::Result<T> {
        let calls = &mut *self.calls();
        let fails = calls.failing == Some(calls.count);
        calls.count += 1;
        let done = change(&mut calls.state, fails);
        calls.history.push(calls.state.clone());
        if fails { Err(io::ErrorKind::StorageFull.into()) } else { done }
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        let calls = &mut *self.calls();
        let (fails, left_out) = (calls.failing == Some(calls.count), calls.left_out == Some(calls.syncs));
        calls.count += 1;
        calls.syncs += 1;
        if fails {
            return Err(io::Error::other("the disk did not answer"));
        }
        let inode = calls.state.find(path)?;
        if !left_out {
            calls.state.sync(inode);
        }
        calls.history.push(calls.state.clone());
        Ok(())
    }
}

impl State {
    fn find(&self, path: &Path) -> io::Result<Inode> {
        let mut inode = ROOT;
        for part in path.components() {
            match part {
                Component::RootDir | Component::CurDir => {}
                Component::Normal(name) => inode = *self.names(inode)?.get(name).ok_or_else(missing)?,
                Component::ParentDir | Component::Prefix(_) => return Err(io::ErrorKind::InvalidInput.into()),
            }
        }
        Ok(inode)
    }

    fn names(&self, inode: Inode) -> io::Result<&Names> {
        match &self.nodes[inode] {
            Node::Directory { names, .. } => Ok(names),
            Node::File { .. } | Node::Link { .. } => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    /// The directory of a path, and its last part.
    fn place<'a>(&self, path: &'a Path) -> io::Result<(Inode, &'a OsStr)> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        Ok((self.find(path.parent().unwrap_or(Path::new("/")))?, name))
    }

    fn set(&mut self, directory: Inode, name: &OsStr, inode: Option<Inode>) -> io::Result<()> {
        match &mut self.nodes[directory] {
            Node::Directory { names, changes, .. } => {
                apply(names, name, inode);
                changes.push((name.to_owned(), inode));
                Ok(())
            }
            Node::File { .. } | Node::Link { .. } => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    /// A new node under a name that must be free.
    fn add(&mut self, path: &Path, node: Node) -> io::Result<()> {
        let (directory, name) = self.place(path)?;
        if self.names(directory)?.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.nodes.push(node);
        self.set(directory, name, Some(self.nodes.len() - 1))
    }

    fn sync(&mut self, inode: Inode) {
        match &mut self.nodes[inode] {
            Node::File { synced, bytes, .. } => synced.clone_from(bytes),
            Node::Directory { synced, names, changes, .. } => {
                synced.clone_from(names);
                changes.clear();
            }
            Node::Link { .. } => {}
        }
    }

    fn settle(&mut self) {
        (0..self.nodes.len()).for_each(|inode| self.sync(inode));
    }

    /// Every state that a cut could leave of this one.
    fn cuts(&self) -> Vec<Self> {
        let mut cuts = vec![self.clone()];
        for (inode, node) in self.nodes.iter().enumerate() {
            let left = node.cuts();
            cuts = cuts.iter().flat_map(|state| left.iter().map(|node| state.with(inode, node))).collect();
        }
        cuts
    }

    fn with(&self, inode: Inode, node: &Node) -> Self {
        let mut state = self.clone();
        state.nodes[inode] = node.clone();
        state
    }
}

impl Node {
    /// What a cut can leave of it.
    fn cuts(&self) -> Vec<Self> {
        match self {
            Self::File { synced, bytes, mode } => {
                let half = bytes[..bytes.len() / 2].to_vec();
                let contents = BTreeSet::from([synced.clone(), bytes.clone(), half, vec![0; bytes.len()]]);
                let contents = if synced == bytes { BTreeSet::from([bytes.clone()]) } else { contents };
                let file = |bytes: Vec<u8>| Self::File { synced: bytes.clone(), bytes, mode: *mode };
                contents.into_iter().map(file).collect()
            }
            Self::Directory { synced, changes, mode, .. } => {
                let subsets = 0..1_u32 << changes.len();
                let kept = subsets.map(|subset| {
                    let mut names = synced.clone();
                    let kept = changes.iter().enumerate().filter(|(n, _)| subset >> n & 1 == 1);
                    kept.for_each(|(_, (name, inode))| apply(&mut names, name, *inode));
                    names
                });
                let names: BTreeSet<Names> = kept.collect();
                let directory =
                    |names: Names| Self::Directory { synced: names.clone(), names, changes: Vec::new(), mode: *mode };
                names.into_iter().map(directory).collect()
            }
            Self::Link { .. } => vec![self.clone()],
        }
    }
}

fn apply(names: &mut Names, name: &OsStr, inode: Option<Inode>) {
    match inode {
        Some(inode) => drop(names.insert(name.to_owned(), inode)),
        None => drop(names.remove(name)),
    }
}

impl Disk for ModelDisk {
    fn open(&self, path: &Path) -> io::Result<Box<dyn Read + Send>> {
        let calls = self.calls();
        match &calls.state.nodes[calls.state.find(path)?] {
            Node::File { bytes, .. } => Ok(Box::new(Cursor::new(bytes.clone()))),
            Node::Directory { .. } | Node::Link { .. } => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    fn write_new(&self, path: &Path, new: &[u8], new_mode: u32) -> io::Result<()> {
        self.change(|state, fails| {
            let new = if fails { &new[..new.len() / 2] } else { new };
            let Ok(inode) = state.find(path) else {
                return state.add(path, Node::File { synced: Vec::new(), bytes: new.to_vec(), mode: new_mode });
            };
            let Node::File { bytes, mode, .. } = &mut state.nodes[inode] else {
                return Err(io::ErrorKind::InvalidInput.into());
            };
            (*bytes, *mode) = (new.to_vec(), new_mode);
            Ok(())
        })
    }

    fn append(&self, path: &Path, more: &[u8]) -> io::Result<()> {
        self.change(|state, fails| {
            let inode = state.find(path)?;
            let Node::File { bytes, .. } = &mut state.nodes[inode] else {
                return Err(io::ErrorKind::InvalidInput.into());
            };
            bytes.extend_from_slice(if fails { &more[..more.len() / 2] } else { more });
            Ok(())
        })
    }

    fn sync_file(&self, path: &Path) -> io::Result<()> {
        self.sync(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.sync(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.change(|state, fails| {
            let ((from_dir, from), (to_dir, to)) = (state.place(from)?, state.place(to)?);
            let inode = *state.names(from_dir)?.get(from).ok_or_else(missing)?;
            if fails || state.names(to_dir)?.get(to) == Some(&inode) {
                return Ok(());
            }
            state.set(to_dir, to, Some(inode))?;
            state.set(from_dir, from, None)
        })
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.change(|state, fails| {
            let inode = state.find(from)?;
            let (directory, name) = state.place(to)?;
            if state.names(directory)?.contains_key(name) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            if fails { Ok(()) } else { state.set(directory, name, Some(inode)) }
        })
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.change(|state, fails| {
            let inode = state.find(path)?;
            if matches!(state.nodes[inode], Node::Directory { .. }) {
                return Err(io::ErrorKind::IsADirectory.into());
            }
            let (directory, name) = state.place(path)?;
            if fails { Ok(()) } else { state.set(directory, name, None) }
        })
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.change(|state, fails| {
            if !state.names(state.find(path)?)?.is_empty() {
                return Err(io::ErrorKind::DirectoryNotEmpty.into());
            }
            let (directory, name) = state.place(path)?;
            if fails { Ok(()) } else { state.set(directory, name, None) }
        })
    }

    fn create_dir(&self, path: &Path, mode: u32) -> io::Result<()> {
        self.change(|state, fails| if fails { Ok(()) } else { state.add(path, directory(mode)) })
    }

    fn symlink(&self, target: &Path, link: &Path) -> io::Result<()> {
        self.change(
            |state, fails| {
                if fails { Ok(()) } else { state.add(link, Node::Link { target: target.to_owned() }) }
            },
        )
    }

    fn read_link(&self, link: &Path) -> io::Result<PathBuf> {
        let calls = self.calls();
        match &calls.state.nodes[calls.state.find(link)?] {
            Node::Link { target } => Ok(target.clone()),
            Node::File { .. } | Node::Directory { .. } => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        let calls = self.calls();
        Ok(calls.state.names(calls.state.find(dir)?)?.keys().cloned().collect())
    }

    fn stat(&self, path: &Path) -> io::Result<Option<Stat>> {
        let calls = self.calls();
        let Ok(inode) = calls.state.find(path) else { return Ok(None) };
        Ok(Some(match &calls.state.nodes[inode] {
            Node::File { bytes, mode, .. } => Stat { kind: Kind::File, size_bytes: bytes.len() as u64, mode: *mode },
            Node::Directory { mode, .. } => Stat { kind: Kind::Directory, size_bytes: 0, mode: *mode },
            Node::Link { target } => {
                Stat { kind: Kind::Link, size_bytes: target.as_os_str().len() as u64, mode: 0o777 }
            }
        }))
    }
}
