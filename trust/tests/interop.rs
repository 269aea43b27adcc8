//! Metadata made by python-tuf is understood: canonical form, key ids, signatures and hashes agree with code that is not
//! ours. The `make.py` in each directory below `tests/data` made the files.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use common::{Client, NOW};
use orangery_trust::release::target_path;
use orangery_trust::{Refusal, Role, Search, TrustedSet};

const ROOT_1: &[u8] = include_bytes!("data/python-tuf/1.root.json");

fn served(file: &str) -> Option<Vec<u8>> {
    let bytes: &[u8] = match file {
        "2.root.json" => include_bytes!("data/python-tuf/2.root.json"),
        "timestamp.json" => include_bytes!("data/python-tuf/timestamp.json"),
        "5.snapshot.json" => include_bytes!("data/python-tuf/5.snapshot.json"),
        "3.targets.json" => include_bytes!("data/python-tuf/3.targets.json"),
        _ => return None,
    };
    Some(bytes.to_vec())
}

#[test]
fn a_repository_made_by_python_tuf_is_trusted() {
    let mut client = Client::new(ROOT_1);
    assert_eq!(client.refresh_from(NOW, |request| served(&request.file)), Ok(()));
    assert_eq!(client.versions(), [2, 8, 5, 3]);
    let (app, version) = ("greeter".parse().unwrap(), "1.0.0".parse().unwrap());
    let set = client.set();
    let target = set.target(&target_path(&app, &version), NOW).unwrap();
    assert!(target.is(b"any bytes\n"));
    assert_eq!(target.custom.fields()["more"]["list"][1], -2);
    assert_eq!(set.release(&app, &version, NOW).unwrap().id.0, target.sha256().unwrap());
    assert_eq!(set.signed_at(), None, "python-tuf does not say when it signed");
}

#[test]
fn text_that_canonical_json_leaves_as_it_is_must_stay_as_it_is() {
    // The note in the root has a tab, a line break, quotes, a backslash and characters beyond ASCII.
    let text = String::from_utf8(ROOT_1.to_vec()).unwrap();
    let changed = text.replace("\\t", " ");
    assert_ne!(text, changed);
    let mut client = Client::new(changed.as_bytes());
    let refusal = client.refresh_from(NOW, |request| served(&request.file)).unwrap_err();
    assert_eq!(refusal, Refusal::Unsigned { role: Role::Root, valid: 0, threshold: 2 });
}

fn served_kinds(file: &str) -> Option<Vec<u8>> {
    let bytes: &[u8] = match file {
        "timestamp.json" => include_bytes!("data/python-tuf-kinds/timestamp.json"),
        "4.snapshot.json" => include_bytes!("data/python-tuf-kinds/4.snapshot.json"),
        "3.targets.json" => include_bytes!("data/python-tuf-kinds/3.targets.json"),
        "2.low.json" => include_bytes!("data/python-tuf-kinds/2.low.json"),
        "2.high.json" => include_bytes!("data/python-tuf-kinds/2.high.json"),
        "1.team%2Ftool.json" => include_bytes!("data/python-tuf-kinds/1.team%2Ftool.json"),
        _ => return None,
    };
    Some(bytes.to_vec())
}

const ROOT_OF_KINDS: &[u8] = include_bytes!("data/python-tuf-kinds/1.root.json");

#[test]
fn keys_of_every_kind_and_delegations_of_both_forms_are_trusted() {
    let mut client = Client::new(ROOT_OF_KINDS);
    assert_eq!(client.refresh_from(NOW, |request| served_kinds(&request.file)), Ok(()));
    let set = client.set();
    let mut search = Search::begin(&set, "team/tool/1.0.0.bin", NOW).unwrap();
    let mut asked = Vec::new();
    while let Some(request) = search.next() {
        search.supply(served_kinds(&request.file).as_deref()).unwrap();
        asked.push(request.file);
    }
    // `printf team/tool/1.0.0.bin | sha256sum` begins with d.
    assert_eq!(asked, ["2.high.json", "1.team%2Ftool.json"]);
    let found = search.finish().unwrap();
    assert_eq!(found.role.as_deref(), Some("team/tool"));
    assert!(found.target.is(b"any bytes\n"));
    assert_eq!(found.file.len(), "team/tool/1.0.0.bin".len() + 129, "SHA-512 is all that is listed");
}

#[test]
fn each_of_three_kinds_of_keys_is_needed_for_three_signatures() {
    for place in 0..3 {
        let mut root: serde_json::Value = serde_json::from_slice(ROOT_OF_KINDS).unwrap();
        let sig = root["signatures"][place]["sig"].as_str().unwrap().to_owned();
        // The last digit but one: the signature keeps its form.
        let at = sig.len() - 2;
        let digit = if &sig[at..=at] == "0" { "1" } else { "0" };
        root["signatures"][place]["sig"] = format!("{}{digit}{}", &sig[..at], &sig[at + 1..]).into();
        let client = Client::new(&serde_json::to_vec(&root).unwrap());
        let refusal = TrustedSet::load(&client.stored).map(drop).unwrap_err();
        assert_eq!(refusal, Refusal::Unsigned { role: Role::Root, valid: 2, threshold: 3 });
    }
}
