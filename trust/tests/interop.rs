//! Metadata made by python-tuf is understood: canonical form, key ids, signatures and hashes agree with code that is not
//! ours. `tests/data/python-tuf/make.py` made the files.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use common::{Client, NOW};
use orangery_trust::release::target_path;
use orangery_trust::{Refusal, Role};

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
    assert_eq!(target.custom["more"]["list"][1], -2);
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
