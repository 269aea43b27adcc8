//! What must be durable when: each file that decides something is the old or the new one, and the new one before the world sees
//! anything that follows from it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::image::{Image, Op};

/// Files whose replacement must be old or new, and new before the world sees anything that follows from it.
fn is_key(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let whole = !name.starts_with('.') && !name.ends_with(".previous");
    let first = path.components().next().map(|part| part.as_os_str().to_owned()).unwrap_or_default();
    whole
        && match first.to_str() {
            Some("apps") => ["state.json", "current", "manifest.json", REFUSED].contains(&name),
            Some("identity") => name.contains('.'),
            Some("trust") => Path::new(name).extension().is_some_and(|ending| ending == "json"),
            Some("node.json" | "units") => true,
            _ => false,
        }
}

/// What the world sees of the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sight {
    /// An app is started, or something is said: all that was done before it must be there.
    All,
    /// Somebody is asked for a connection for the first time: the key that may be used on it, and the count of starts that will be
    /// reported, must be there.
    Identity,
    /// A file of metadata is asked for: those before it must be there.
    Trust,
    /// An event is durable and will be told: what the records of apps say must be there.
    Apps,
}

/// What each key file held, and since which operation.
pub struct Timeline {
    held: BTreeMap<PathBuf, Vec<(usize, Option<u64>)>>,
    sights: BTreeMap<usize, Sight>,
    /// What was done, in words.
    shapes: Vec<(&'static str, PathBuf)>,
}

/// What was seen of a refused release: whole, but the way back does not wait for it.
pub const REFUSED: &str = "refused.json";
/// It follows at the end of a refresh.
const FLOOR: &str = "trust/floor.json";
/// The mark of an attempt to connect.
pub const CONNECTS: &str = "connects";
/// How the mark begins that says that metadata is asked for.
pub const ASKED: &str = "asks for ";

fn sight(op: &Op) -> Option<Sight> {
    match op {
        Op::Mark(text) if text.starts_with(ASKED) => Some(Sight::Trust),
        Op::Mark(text) if text == CONNECTS => Some(Sight::Identity),
        Op::Mark(_) => Some(Sight::All),
        Op::SyncFile { path } if path.starts_with("store") => Some(Sight::Apps),
        _ => None,
    }
}

/// Whether something follows from what was done before this operation.
pub fn is_seen(op: &Op) -> bool {
    sight(op).is_some()
}

impl Timeline {
    pub fn of(start: &Image, ops: &[Op]) -> Self {
        let touched = ops.iter().map(|op| op.shape().1).chain(start.walk().into_iter().map(|(path, _)| path));
        let paths: BTreeSet<PathBuf> = touched.filter(|path| is_key(path)).collect();
        let mut image = start.clone();
        let mut held: BTreeMap<PathBuf, Vec<(usize, Option<u64>)>> =
            paths.into_iter().map(|path| (path.clone(), vec![(0, image.seen(&path))])).collect();
        let mut sights = BTreeMap::from([(0, Sight::All)]);
        for (n, op) in ops.iter().enumerate() {
            image.apply(op).unwrap();
            let again = |sight| sight == Sight::Identity && sights.values().any(|seen| *seen == sight);
            let sight = sight(op).filter(|sight| !again(*sight));
            sights.extend(sight.map(|sight| (n + 1, sight)));
            for (path, held) in &mut held {
                let seen = image.seen(path);
                if held.last().is_some_and(|(_, last)| *last != seen) {
                    held.push((n + 1, seen));
                }
            }
        }
        // Whoever asked for all this has heard that it is done.
        sights.insert(ops.len(), Sight::All);
        Self { held, sights, shapes: ops.iter().map(Op::shape).collect() }
    }

    /// Whether the world sees what is there after so many operations.
    pub fn is_seen(&self, done: usize) -> bool {
        done > 0 && self.sights.contains_key(&done)
    }

    /// The same of what lies at `path`.
    pub fn is_seen_of(&self, done: usize, path: &Path) -> bool {
        self.sights.get(&done).is_some_and(|sight| match sight {
            Sight::All => true,
            Sight::Apps => path.starts_with("apps"),
            Sight::Trust => path.starts_with("trust"),
            Sight::Identity => {
                path.starts_with("identity") || path.parent().is_none_or(|parent| parent == Path::new(""))
            }
        })
    }

    /// What must not be on the disk when the power fails after `done` operations. `seen`: and after the world saw them.
    pub fn judge(&self, image: &Image, done: usize, seen: bool) -> Vec<String> {
        let sights = || self.sights.range(..done + usize::from(seen)).rev();
        let last = |which: &[Sight]| sights().find(|(_, sight)| which.contains(sight)).map_or(0, |(n, _)| *n);
        let (of_all, of_apps) = (last(&[Sight::All]), last(&[Sight::All, Sight::Apps]));
        let at_the_end = sights().next().map_or(0, |(n, _)| if *n == self.shapes.len() { *n } else { 0 });
        let of_identity = last(&[Sight::All, Sight::Identity]);
        let of_trust = last(&[Sight::All, Sight::Trust]);
        let mut wrong = Vec::new();
        for (path, held) in &self.held {
            let first = path.components().next().map(|part| part.as_os_str().to_owned()).unwrap_or_default();
            let from = match first.to_str() {
                Some("apps") if path.ends_with(REFUSED) => at_the_end,
                Some("apps") => of_apps,
                Some("identity" | "node.json") => of_identity,
                Some("trust") if path != Path::new(FLOOR) => of_trust,
                _ => of_all,
            };
            let later = held.iter().filter(|(n, _)| *n > from && *n <= done);
            let at_mark = held.iter().rev().find(|(n, _)| *n <= from);
            let found = image.seen(path);
            if !later.chain(at_mark).any(|(_, held)| *held == found) {
                let what = if found.is_some() { "holds what it did not hold" } else { "is not there" };
                wrong.push(format!(
                    "durable before effect: {} {what} when it had to; the power fails after operation {done}; {}",
                    path.display(),
                    self.around(from, at_mark.map_or(0, |(n, _)| *n)),
                ));
            }
        }
        wrong
    }

    /// What was done around the change that had to be durable, and around what the world saw after it.
    fn around(&self, seen: usize, changed: usize) -> String {
        let near = |n: usize| {
            let lines = self.shapes.iter().enumerate().take(n + 3).skip(n.saturating_sub(4));
            lines
                .map(|(n, (name, path))| format!("{}. {name} {}", n + 1, path.display()))
                .collect::<Vec<_>>()
                .join(", ")
        };
        format!("changed by operation {changed} ({}); seen after operation {seen} ({})", near(changed), near(seen))
    }
}
