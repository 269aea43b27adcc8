//! The fuzz targets of `tests/fuzz` on their kept corpus and on a few thousand changes of it, the same in each run.

#![allow(clippy::unwrap_used, reason = "these are tests, their helpers included")]

#[allow(clippy::indexing_slicing, clippy::missing_panics_doc, reason = "it is a part of tests here")]
#[path = "../../tests/fuzz/src/lib.rs"]
mod fuzz;
mod hostile;
mod origin;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use orangery_wire::container;

/// Changes of the corpus for each target.
const CHANGES: u32 = 2_000;

fn corpus(target: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fuzz/corpus")).join(target)
}

/// The kept inputs, in the order of their names.
fn kept(target: &str) -> Vec<Vec<u8>> {
    let entries = fs::read_dir(corpus(target)).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

/// splitmix64
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % end.max(1) as u64).unwrap()
    }

    /// One of the kept inputs with a few changes.
    fn changed(&mut self, kept: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = kept[self.below(kept.len())].clone();
        for _ in 0..=self.below(3) {
            self.change(&mut bytes, kept);
        }
        bytes
    }

    fn change(&mut self, bytes: &mut Vec<u8>, kept: &[Vec<u8>]) {
        const TELLING: [&[u8]; 14] = [
            b"0",
            b"-1",
            b"18446744073709551616",
            b"1e400",
            b"null",
            b"{}",
            b"[]",
            b"\"\"",
            b"\"..\"",
            b"\\u0000",
            b"\xff",
            b"\0",
            b"/",
            b"[[[[[[[[",
        ];
        let at = self.below(bytes.len() + 1);
        let to = at + self.below((bytes.len() - at).min(64) + 1);
        match self.below(7) {
            0 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
            1 if at < bytes.len() => bytes[at] = u8::try_from(self.below(256)).unwrap(),
            2 => drop(bytes.drain(at..to)),
            3 => drop(bytes.splice(at..at, bytes[at..to].to_vec())),
            4 => drop(bytes.splice(at..to, TELLING[self.below(TELLING.len())].iter().copied())),
            5 => bytes.truncate(at),
            _ => {
                let other = &kept[self.below(kept.len())];
                let from = self.below(other.len() + 1);
                bytes.splice(at..to, other[from..(from + 64).min(other.len())].iter().copied());
            }
        }
    }
}

/// Says which input it was, should the target panic.
struct Tried<'a>(&'a str, &'a [u8]);

impl Drop for Tried<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the input of {} was \"{}\"", self.0, self.1.escape_ascii());
        }
    }
}

#[test]
fn every_target_stands_its_corpus_and_thousands_of_changes_of_it() {
    let seed = std::env::var("ORANGERY_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(20_261_121);
    println!("ORANGERY_SEED={seed}");
    for (name, target) in fuzz::TARGETS {
        let kept = kept(name);
        let mut random = Random(seed);
        let changed = (0..CHANGES).map(|_| random.changed(&kept)).collect::<Vec<_>>();
        for bytes in kept.iter().chain(&changed) {
            let _tried = Tried(name, bytes);
            target(bytes);
        }
        println!("{name}: {} kept inputs and {CHANGES} changes of them", kept.len());
    }
}

/// What the corpus begins with: real files, and the hostile ones. More that was found is kept beside it.
fn seeds() -> BTreeMap<String, Vec<u8>> {
    let mut seeds = BTreeMap::new();
    let repository = fuzz::repository();
    let file = |target: &str, name: &str| format!("{target}/{name}");
    for (target, own) in [
        ("root", "2.root.json"),
        ("timestamp", "timestamp.json"),
        ("snapshot", "1.snapshot.json"),
        ("targets", "1.targets.json"),
    ] {
        for (name, bytes) in repository {
            let name = if name == own { "genuine".to_owned() } else { format!("other-{name}") };
            seeds.insert(file(target, &name), bytes.clone());
        }
    }
    let all: Vec<(&str, &[u8])> = repository.iter().map(|(name, bytes)| (name.as_str(), &bytes[..])).collect();
    seeds.insert(file("bundle", "genuine"), bundle(&all));
    seeds.insert(file("bundle", "only-a-timestamp"), bundle(&all[4..]));
    seeds.insert(file("bundle", "a-file-twice"), bundle(&[all[4], all[4]]));
    seeds.insert(file("bundle", "empty"), bundle(&[]));
    seeds.insert(file("bundle", "cut"), bundle(&all)[..700].to_vec());
    let cases = hostile::all(Path::new("/outside"));
    for case in cases.iter().step_by(3) {
        let name: String = case.name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        if case.manifest.len() < 2_000 {
            seeds.insert(file("manifest", &name), case.manifest.clone());
        }
        if let Some(tree) = case.tree().filter(|tree| tree.entries.len() < 50 && case.pack.len() < 2_000) {
            let tree = serde_json::to_vec(&tree).unwrap();
            seeds.insert(file("tree", &name), [&tree[..], &[0], &case.pack].concat());
        }
    }
    let (manifest, pack) = hostile::good();
    let tree =
        serde_json::to_vec(orangery_wire::Manifest::parse(&manifest).unwrap().platforms.values().next().unwrap());
    seeds.insert(file("manifest", "genuine"), manifest);
    seeds.insert(file("tree", "genuine"), [&tree.unwrap()[..], &[0], &pack].concat());
    seeds
}

fn bundle(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, content) in files {
        bytes.extend(container::header(&format!("metadata/{name}"), content.len() as u64).unwrap());
        bytes.extend_from_slice(content);
        bytes.resize(bytes.len().next_multiple_of(container::BLOCK_BYTES), 0);
    }
    bytes.resize(bytes.len() + 2 * container::BLOCK_BYTES, 0);
    bytes
}

#[test]
#[ignore = "it writes the corpus anew"]
fn the_corpus_is_written() {
    for (name, bytes) in seeds() {
        let path = corpus(&name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

#[test]
fn the_genuine_inputs_are_accepted() {
    for (name, target) in fuzz::TARGETS {
        let genuine = fs::read(corpus(name).join("genuine")).unwrap();
        target(&genuine);
        assert!(fuzz::is_accepted(name, &genuine), "{name}: the corpus is of an older form; write it anew");
    }
}
