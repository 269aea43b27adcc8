//! Bytes changed on the way or on disk: every single one is noticed, and nothing makes the client panic.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::collections::BTreeMap;

use common::{Client, NOW, Repo, describe, sign};
use orangery_trust::{Refresh, Role, Stored, TrustedSet, repository};
use serde_json::Value;

/// A repository whose root 2, timestamp, snapshot and targets are each signed by exactly as many keys as are needed.
fn repo() -> Repo {
    let mut repo = Repo::new();
    let both = [repo.root.public(), repo.recovery.public()].into();
    repo.rotate(|root| root.root = repository::KeyHolders { keys: both, threshold: 2 });
    repo.release("1.0.0");
    repo
}

/// A change of each byte: of letters the bit that makes small ones capital, of others another bit at each place.
fn changed(bytes: &[u8]) -> impl Iterator<Item = (usize, Vec<u8>)> {
    (0..bytes.len()).map(move |place| {
        let mut changed = bytes.to_vec();
        changed[place] ^= if bytes[place].is_ascii_alphabetic() { 0x20 } else { 1 << (place % 8) };
        (place, changed)
    })
}

#[test]
fn any_changed_byte_of_any_file_on_the_way_is_refused() {
    let repo = repo();
    let mut refresh = Refresh::begin(Client::of(&repo).set(), NOW);
    let mut files = Vec::new();
    while let Some(request) = refresh.next() {
        if let Some(original) = repo.serve(&request) {
            let before = refresh.clone().finish().versions();
            let cut = (0..original.len()).step_by(11).map(|length| (length, original[..length].to_vec()));
            for (place, bytes) in changed(&original).chain(cut) {
                let mut refresh = refresh.clone();
                let outcome = refresh.supply(Some(&bytes));
                assert!(outcome.is_err(), "{}, byte {place}: {}", request.file, String::from_utf8_lossy(&bytes));
                assert_eq!(refresh.next(), None);
                assert_eq!(refresh.finish().versions(), before, "{}, byte {place}", request.file);
            }
            files.push(request.file.clone());
        }
        refresh.supply(repo.serve(&request).as_deref()).unwrap();
    }
    assert_eq!(files, ["2.root.json", "timestamp.json", "2.snapshot.json", "2.targets.json"]);
}

#[test]
fn any_changed_byte_on_disk_is_noticed() {
    let repo = repo();
    let mut client = Client::of(&repo);
    client.refresh(&repo).unwrap();
    let good = client.stored.clone();
    let load = |stored: Stored| TrustedSet::load(&stored);
    for (place, bytes) in changed(&good.roots[1]) {
        let stored = Stored { roots: vec![good.roots[0].clone(), bytes], ..good.clone() };
        assert!(load(stored).is_err(), "root, byte {place}");
    }
    for (place, bytes) in changed(good.timestamp.as_ref().unwrap()) {
        assert!(load(Stored { timestamp: Some(bytes), ..good.clone() }).is_err(), "timestamp, byte {place}");
    }
    for (place, bytes) in changed(good.snapshot.as_ref().unwrap()) {
        assert!(load(Stored { snapshot: Some(bytes), ..good.clone() }).is_err(), "snapshot, byte {place}");
    }
    for (place, bytes) in changed(good.targets.as_ref().unwrap()) {
        let set = load(Stored { targets: Some(bytes), ..good.clone() }).unwrap();
        assert!(set.check(NOW).is_err(), "targets, byte {place}");
    }
}

/// xorshift64*: small, and the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end.max(1) as u64).unwrap()
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

/// Names the seed of a round that fails, by whatever panic.
struct Round(u64);

impl Drop for Round {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the failing round has the seed {}: set TAMPER_SEED={} to run it alone", self.0, self.0);
        }
    }
}

/// The rounds of a test: `count` of them, or as many as `TAMPER_ROUNDS` says, or the one that `TAMPER_SEED` names.
fn rounds(count: u64) -> std::ops::Range<u64> {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse().expect("it must be a number"));
    match number("TAMPER_SEED") {
        Some(seed) => seed..seed + 1,
        None => 1..1 + number("TAMPER_ROUNDS").unwrap_or(count),
    }
}

const PIECES: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"",
    "\\",
    "\\u0000",
    "\\ud800",
    "null",
    "true",
    "-1",
    "0",
    "1e9",
    "0.5",
    "18446744073709551615",
    "18446744073709551616",
    "9999-12-31T23:59:59Z",
    "{\"a\":1}",
    "signed",
    "root",
    "\u{0}",
    "é",
];

fn mangle(random: &mut Random, bytes: &mut Vec<u8>, others: &[Vec<u8>]) {
    let place = random.below(bytes.len() + 1);
    let end = (place + random.below(80)).min(bytes.len());
    match random.below(5) {
        0 => drop(bytes.drain(place..end)),
        1 => drop(bytes.splice(place..place, random.pick(PIECES).bytes())),
        2 => drop(bytes.splice(place..end, random.pick(PIECES).bytes())),
        3 => {
            let copy = bytes[place..end].to_vec();
            let at = random.below(bytes.len() + 1);
            drop(bytes.splice(at..at, copy));
        }
        _ => {
            let other = random.pick(others);
            let from = random.below(other.len());
            let to = (from + random.below(200)).min(other.len());
            drop(bytes.splice(place..end, other[from..to].iter().copied()));
        }
    }
}

#[test]
fn random_damage_is_refused_or_harmless() {
    let repo = repo();
    let genuine: Vec<Vec<u8>> = repo.files.values().cloned().collect();
    let whole = [2, 2, 2, 2];
    let names: Vec<String> = repo.files.keys().cloned().collect();
    let mut accepted = 0;
    for seed in rounds(1_000) {
        let _round = Round(seed);
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let mut files = repo.files.clone();
        for _ in 0..=random.below(3) {
            let file = files.get_mut(random.pick(&names)).unwrap();
            mangle(&mut random, file, &genuine);
        }
        let mut client = Client::of(&repo);
        let outcome = client.refresh_from(NOW, |request| files.get(&request.file).cloned());
        if outcome.is_ok() {
            // The damage is where nobody looks (an old root), or it says the same in other bytes.
            accepted += 1;
            assert_eq!(client.versions()[1..], [2, 2, 2]);
            assert_eq!(client.stored.targets.as_ref(), Some(&repo.latest_targets));
        }
        // The same bytes found on disk.
        let stored = Stored {
            roots: ["1.root.json", "2.root.json"].map(|file| files[file].clone()).into(),
            timestamp: files.get("timestamp.json").cloned(),
            snapshot: files.get("2.snapshot.json").cloned(),
            targets: files.get("2.targets.json").cloned(),
        };
        if let Ok(set) = TrustedSet::load(&stored) {
            let versions = set.versions();
            let versions = [versions.root, versions.timestamp, versions.snapshot, versions.targets];
            assert!(set.check(NOW).is_err() || versions == whole, "{versions:?}");
        }
    }
    println!("{accepted} rounds were harmless");
}

/// A coordinator in the hands of somebody else: it signs whatever it likes with the online keys. It may withhold, never
/// add: every target that a node ever accepts was signed by the owner, and nothing goes back.
#[test]
fn stolen_online_keys_cannot_make_a_node_trust_what_the_owner_did_not_sign() {
    let mut repo = repo();
    repo.release("1.1.0");
    let mut met = BTreeMap::new();
    for seed in rounds(30) {
        let _round = Round(seed);
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let mut client = Client::of(&repo);
        for _ in 0..20 {
            let files = hostile(&mut random, &repo);
            let before = client.versions();
            let outcome = client.refresh_from(NOW, |request| files.get(&request.file).cloned());
            let after = client.versions();
            assert!(before.iter().zip(after).all(|(before, after)| *before <= after), "{before:?} {after:?}");
            if let Some(targets) = &client.stored.targets {
                assert!(repo.files.values().any(|genuine| genuine == targets));
            }
            *met.entry(outcome.map_or_else(|refusal| variant(&refusal), |()| "accepted".to_owned())).or_insert(0) += 1;
        }
    }
    println!("{met:?}");
    if std::env::var_os("TAMPER_SEED").is_none() {
        assert!(met.len() >= 6 && met.contains_key("accepted"), "the attacker is too weak to show anything: {met:?}");
    }
}

fn variant(refusal: &orangery_trust::Refusal) -> String {
    format!("{refusal:?}").split(' ').next().unwrap().to_owned()
}

/// A repository with genuine roots and targets, around them a snapshot and a timestamp signed by the real online keys.
fn hostile(random: &mut Random, repo: &Repo) -> BTreeMap<String, Vec<u8>> {
    let mut files = repo.files.clone();
    let (version, snapshot_version) = (1 + random.below(6) as u64, 1 + random.below(6) as u64);
    let named = 1 + random.below(3) as u64;
    let genuine = repo.files[&format!("{named}.targets.json")].clone();
    let mut targets = genuine.clone();
    if random.below(3) == 0 {
        // An invented release, signed by the wrong key.
        let mut signed = serde_json::from_slice::<Value>(&genuine).unwrap()["signed"].take();
        signed["targets"]["evil/1.0.0/manifest.json"] = describe(b"evil", 1);
        targets = sign(&signed, &[&repo.online.snapshot]);
    }
    let claimed = if random.below(4) == 0 { 1 + random.below(6) as u64 } else { named };
    files.insert(format!("{claimed}.targets.json"), targets.clone());

    let mut edited = |file: &str, role: Role, version: u64, meta: &str, bytes: &[u8], meta_version: u64| {
        repo.forged(file, &[repo.key(role)], |signed| {
            signed["version"] = version.into();
            signed["meta"][meta] = describe(bytes, meta_version);
            match random.below(8) {
                0 => signed["meta"][meta]["length"] = random.next().into(),
                1 => drop(signed["meta"][meta].as_object_mut().unwrap().remove("hashes")),
                2 => signed["expires"] = "2026-11-21T00:00:00Z".into(),
                3 => signed["version"] = (*random.pick(&[0, u64::MAX, version + 1])).into(),
                _ => {}
            }
        })
    };
    let snapshot = edited("1.snapshot.json", Role::Snapshot, snapshot_version, "targets.json", &targets, claimed);
    let timestamp = edited("timestamp.json", Role::Timestamp, version, "snapshot.json", &snapshot, snapshot_version);
    files.insert(format!("{snapshot_version}.snapshot.json"), snapshot);
    files.insert("timestamp.json".to_owned(), timestamp);
    files
}
