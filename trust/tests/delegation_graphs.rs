//! The search against a second, plainly recursive reading of TUF 5.6.7, on seeded random graphs; and every byte of a
//! delegated role's metadata, changed once.
#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

mod common;

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use common::NOW;
use common::tree::{PublicValue, Tree};
use orangery_trust::{Refusal, Search};
use serde_json::{Value, json};

const PATHS: [&str; 4] = ["x", "y", "a/x", "a/y"];

/// xorshift64: the same graphs in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % end as u64).unwrap()
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }
}

/// Whom a recursive search asks, and where it ends before all are asked.
fn search(
    tree: &Tree,
    role: &str,
    path: &str,
    visited: &mut BTreeSet<String>,
    order: &mut Vec<String>,
) -> ControlFlow<Option<String>> {
    if !visited.insert(role.to_owned()) {
        return ControlFlow::Continue(());
    }
    order.push(role.to_owned());
    let said = &tree.roles[role];
    if said["targets"].get(path).is_some() {
        return ControlFlow::Break(Some(role.to_owned()));
    }
    for delegation in said["delegations"]["roles"].as_array().unwrap() {
        if !covers(delegation["paths"][0].as_str().unwrap(), path) {
            continue;
        }
        search(tree, delegation["name"].as_str().unwrap(), path, visited, order)?;
        if delegation["terminating"] == true {
            return ControlFlow::Break(None);
        }
    }
    ControlFlow::Continue(())
}

/// Of the few patterns that are used here.
fn covers(pattern: &str, path: &str) -> bool {
    match pattern {
        "*" => !path.contains('/'),
        "*/*" => path.contains('/'),
        "a/*" => path.starts_with("a/"),
        exact => exact == path,
    }
}

fn grow(tree: &mut Tree, random: &mut Random) {
    let key = tree.repo.targets.public_value();
    let names: Vec<String> = (0..random.below(8)).map(|number| format!("r{number}")).collect();
    tree.roles = std::iter::once("targets".to_owned())
        .chain(names.iter().cloned())
        .map(|name| (name, common::tree::blank()))
        .collect();
    for from in tree.roles.keys().cloned().collect::<Vec<_>>() {
        for to in names.iter().filter(|_| random.one_in(2)).cloned().collect::<Vec<_>>() {
            let pattern = ["*", "*/*", "a/*", "x"][random.below(4)];
            let rule = json!({ "paths": [pattern], "terminating": random.one_in(4) });
            tree.delegate_to(&from, &to, rule, &key);
        }
        for path in PATHS {
            if random.one_in(8) {
                tree.add(&from, path);
            }
        }
    }
}

#[test]
fn random_graphs_are_searched_as_the_specification_says() {
    let (mut tree, mut random) = (Tree::new(), Random(0x0a4e_6e57));
    let (mut found, mut missed, mut longest) = (0, 0, 0);
    for graph in 0..100 {
        grow(&mut tree, &mut random);
        tree.publish();
        for path in PATHS {
            let mut order = Vec::new();
            let expected = search(&tree, "targets", path, &mut BTreeSet::new(), &mut order).break_value().flatten();
            let mut node = tree.client();
            let outcome = node.find(&tree, path);
            assert_eq!(node.asked, order[1..], "graph {graph}, {path}: {:#?}", tree.roles);
            longest = longest.max(order.len());
            match (outcome, expected) {
                (Ok(target), Some(role)) => {
                    assert_eq!(target.role.unwrap_or("targets".to_owned()), role, "graph {graph}, {path}");
                    found += 1;
                }
                (Err(Refusal::UnknownTarget { delegated: false, .. }), None) => missed += 1,
                other => panic!("graph {graph}, {path}: {other:?}"),
            }
        }
    }
    assert!(found > 50 && missed > 100 && longest > 5, "{found} {missed} {longest}");
}

#[test]
fn no_byte_of_a_delegated_roles_metadata_can_be_changed() {
    let mut tree = Tree::of(&["targets A"]);
    tree.add("A", "x").publish();
    let good = tree.repo.files["1.A.json"].clone();
    let mut meta: Value = tree.meta();
    // Without length and hash it is the signature that counts.
    meta["A.json"] = json!({ "version": 1 });
    tree.publish_snapshot(meta);
    let set = tree.client().set();
    let outcome = |bytes: &[u8]| {
        let mut search = Search::begin(&set, "x", NOW).unwrap();
        assert_eq!(search.clone().try_stored(bytes), search.supply(Some(bytes)).is_ok(), "both take the same");
        search.finish()
    };
    assert!(outcome(&good).is_ok());
    for place in 0..good.len() {
        for change in [0x01, 0x20, 0x80] {
            let mut bad = good.clone();
            bad[place] ^= change;
            let refusal = outcome(&bad).unwrap_err();
            assert!(matches!(refusal, Refusal::Delegated { .. }), "byte {place}: {refusal}");
        }
        let refusal = outcome(&good[..place]).unwrap_err();
        assert!(matches!(refusal, Refusal::Delegated { .. }), "cut at {place}: {refusal}");
    }
}
