//! Every disk that a power cut may leave.
//!
//! Three models, each worse than the one before:
//! - **M1**, a journal in order: of names, all that was done; of each file that was not synced, all of it or what was synced of it.
//! - **M2**, a journal of names alone: as M1, but a file that was not synced has its length and zeros where it was written.
//! - **M3**, whatever was not synced may be there or not: any subset of the changes of names (a rename is two of them), and each
//!   file whole, old, cut after any of its writes, without any one of them, torn in the middle or at a block, or zero.
//!
//! Bounds of M3: all subsets of the last [`Bounds::names`] changes of names, of older ones each alone is lost, and each alone is
//! there; two files are damaged at once where no more than [`Bounds::pairs`] files are unsynced, else one, or all alike.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use crate::image::{Change, Content, Image, Inode, Node, change, set};

#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    pub names: usize,
    pub pairs: usize,
}

pub const SMALL: Bounds = Bounds { names: 3, pairs: 1 };
pub const LARGE: Bounds = Bounds { names: 6, pairs: 2 };

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Model {
    M1,
    M2,
    M3,
}

const BLOCK: usize = 512;
/// Of more writes than these to one file the first and the last are left out one by one.
const WRITES_MAX: usize = 6;

type Damage = Vec<(Inode, Arc<Content>)>;

/// Hands over the states that a cut at this moment leaves, and which `seen` does not know yet, until `each` has had enough.
pub fn cuts(
    image: &Image,
    model: Model,
    bounds: Bounds,
    seen: &mut HashSet<u64>,
    each: &mut dyn FnMut(Image) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let damages = damages(image, model, bounds);
    let subsets = if model == Model::M3 { subsets(image, bounds) } else { vec![None] };
    for lost in &subsets {
        let named = without(image, lost.as_deref());
        for damage in &damages {
            let mut state = named.clone();
            for (inode, content) in damage {
                if let Node::File { now, synced, changes, .. } = &mut state.nodes[*inode] {
                    (*now, *synced) = (content.clone(), content.clone());
                    changes.clear();
                }
            }
            let digest = state.digest();
            if seen.insert(digest) {
                state.settle();
                each(state)?;
            }
        }
    }
    ControlFlow::Continue(())
}

fn damages(image: &Image, model: Model, bounds: Bounds) -> Vec<Damage> {
    let unsynced: Vec<(Inode, Vec<Arc<Content>>)> =
        image.nodes.iter().enumerate().filter_map(|(inode, node)| Some((inode, left(node, model)?))).collect();
    let mut damages: Vec<Damage> = vec![Vec::new()];
    for (inode, contents) in &unsynced {
        damages.extend(contents.iter().map(|content| vec![(*inode, content.clone())]));
    }
    // The first of each is what was synced of it, the last is zeros.
    if unsynced.len() > 1 {
        damages.push(unsynced.iter().map(|(inode, contents)| (*inode, contents[0].clone())).collect());
        let zeros = unsynced.iter().filter_map(|(inode, contents)| Some((*inode, contents.last()?.clone())));
        damages.push(zeros.collect());
    }
    if model == Model::M3 && unsynced.len() <= bounds.pairs {
        for (n, (one, of_one)) in unsynced.iter().enumerate() {
            for (other, of_other) in &unsynced[n + 1..] {
                let pairs = of_one.iter().flat_map(|a| of_other.iter().map(move |b| (a, b)));
                damages.extend(pairs.map(|(a, b)| vec![(*one, a.clone()), (*other, b.clone())]));
            }
        }
    }
    damages
}

/// What may be left of a file besides all of it; `None` if it is synced.
fn left(node: &Node, model: Model) -> Option<Vec<Arc<Content>>> {
    let Node::File { now, synced, changes, .. } = node else { return None };
    if changes.is_empty() {
        return None;
    }
    let mut contents = vec![synced.clone()];
    if model == Model::M3 {
        contents.extend(partly(synced, changes).into_iter().map(Content::new));
    }
    if model != Model::M1 {
        contents.push(Content::new(zeroed(now, synced, changes)));
    }
    Some(contents)
}

fn partly(synced: &Content, changes: &[Change]) -> Vec<Vec<u8>> {
    let done = |kept: &dyn Fn(usize) -> bool| {
        let mut bytes = synced.bytes.clone();
        changes.iter().enumerate().filter(|(n, _)| kept(*n)).for_each(|(_, one)| change(&mut bytes, one));
        bytes
    };
    let count = changes.len();
    let telling = |n: usize| n < WRITES_MAX / 2 || n + WRITES_MAX / 2 >= count;
    let mut found = Vec::new();
    for n in (0..count).filter(|n| telling(*n)) {
        found.push(done(&|m| m < n));
        found.push(done(&|m| m != n));
        if let Change::Write { offset, bytes } = &changes[n] {
            for torn in [bytes.len() / 2, bytes.len() / 2 / BLOCK * BLOCK] {
                let mut torn_bytes = done(&|m| m < n);
                change(&mut torn_bytes, &Change::Write { offset: *offset, bytes: bytes[..torn].into() });
                found.push(torn_bytes);
            }
        }
    }
    found
}

/// Blocks that were new are zeros. Blocks that were there before hold what was written over them: no file system clears a block
/// that a file already has.
fn zeroed(now: &Content, synced: &Content, changes: &[Change]) -> Vec<u8> {
    let (mut bytes, old) = (now.bytes.clone(), synced.bytes.len());
    for one in changes {
        if let Change::Write { offset, bytes: written } = one {
            let end = (offset + written.len()).min(bytes.len());
            let from = (*offset).max(old).min(end);
            bytes[from..end].fill(0);
        }
    }
    bytes
}

/// Which changes of names are lost; `None` is none.
fn subsets(image: &Image, bounds: Bounds) -> Vec<Option<Vec<usize>>> {
    let mut all: Vec<usize> = Vec::new();
    for node in &image.nodes {
        if let Node::Directory { changes, .. } = node {
            all.extend(changes.iter().map(|(serial, ..)| *serial));
        }
    }
    all.sort_unstable();
    let mut subsets = vec![None];
    if all.is_empty() {
        return subsets;
    }
    let (old, last) = all.split_at(all.len().saturating_sub(bounds.names));
    for subset in 1..1_u32 << last.len() {
        let chosen = last.iter().enumerate().filter(|(n, _)| subset >> n & 1 == 1);
        subsets.push(Some(chosen.map(|(_, serial)| *serial).collect()));
    }
    for one in old {
        subsets.push(Some(vec![*one]));
        subsets.push(Some(all.iter().copied().filter(|other| other != one).collect()));
    }
    subsets.push(Some(all));
    subsets
}

fn without(image: &Image, lost: Option<&[usize]>) -> Image {
    let mut image = image.clone();
    let Some(lost) = lost else { return image };
    for node in &mut image.nodes {
        if let Node::Directory { names, synced, changes, .. } = node {
            if changes.is_empty() {
                continue;
            }
            let mut left = (**synced).clone();
            let kept = changes.iter().filter(|(serial, ..)| !lost.contains(serial));
            kept.for_each(|(_, name, inode)| set(&mut left, name, *inode));
            *names = Arc::new(left);
        }
    }
    image
}
