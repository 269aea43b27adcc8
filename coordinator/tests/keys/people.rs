//! Keys of several people, and the one that is kept for the day when all others are lost.

use std::fs;

use orangery_trust::repository::Draft;

use super::{Place, copy};

#[test]
fn two_of_three_keys_sign_on_two_machines() {
    let place = Place::plain();
    place.published("1.0.0", &[]);
    let said = place.done(&["keys", "to-threshold", "2"]);
    assert!(said.contains("2 of 3") && said.contains("apart from each other"), "{said}");
    fs::create_dir(place.path("stick")).unwrap();
    for name in ["recovery.key", "third.key"] {
        fs::rename(place.owner(name), place.path("stick").join(name)).unwrap();
    }
    let said = place.pending(&["keys", "rotate", "targets"]);
    assert!(said.contains("Signatures missing: 1") && said.contains("recovery") && said.contains("third"), "{said}");
    assert!(place.pending(&["keys", "publish"]).contains("Signatures missing: 1"));
    // On another machine, which has nothing but the key and the file.
    fs::copy(place.owner("staged/root.json"), place.path("root.json")).unwrap();
    place.in_home("elsewhere", 0, &["keys", "sign", "root.json", "--key", "stick/third.key"]);
    let foreign = place.path("foreign.key");
    fs::write(&foreign, orangery_trust::repository::SigningKey::generate().unwrap().to_pem()).unwrap();
    place.in_home("elsewhere", 0, &["keys", "sign", "root.json", "--key", "foreign.key"]);
    let draft = Draft::read(&fs::read(place.path("root.json")).unwrap()).unwrap();
    assert_eq!(draft.signers().len(), 2, "a stranger's signature counts for nothing");
    place.done(&["keys", "publish", "--signed", "root.json"]);
    assert_eq!(place.root_version(), 3);
    place.node_takes("1.0.0").unwrap();
    // The same with the stick in this machine; another root does not pass for the staged one.
    assert!(place.done(&["keys", "publish", "--signed", "root.json"]).contains("Nothing is staged"));
    place.pending(&["keys", "rotate", "root"]);
    assert!(place.refused(&["keys", "publish", "--signed", "root.json"]).contains("is not the root that is staged"));
    place.done(&["keys", "rotate", "root", "--key", "stick/recovery.key"]);
    place.published("1.1.0", &[]);
    place.node_takes("1.1.0").unwrap();
}

#[test]
fn keys_of_other_people_are_added_and_taken_away() {
    let place = Place::plain();
    place.published("1.0.0", &[]);
    let public = place.in_home("theirs", 0, &["keys", "new", "theirs.key", "--no-passphrase"]);
    place.done(&["keys", "add", "targets", "--name", "anna", "--public", public.trim()]);
    assert!(place.refused(&["keys", "add", "targets", "--name", "anna"]).contains("already"));
    assert!(place.refused(&["keys", "add", "targets", "--name", "../x"]).contains("no name for a key"));
    assert!(place.refused(&["keys", "add", "targets", "--name", "x", "--public", "ed25519:00"]).contains("--public"));
    // Anna's machine has the coordinator's address and her key, and no root key.
    copy(&place.path("home/owner"), &place.path("anna/owner"));
    for name in ["root.key", "recovery.key"] {
        fs::remove_file(place.path("anna/owner").join(name)).unwrap();
    }
    fs::rename(place.path("theirs.key"), place.path("anna/owner/targets.key")).unwrap();
    copy(&place.path("home/coordinator"), &place.path("anna/coordinator"));
    for name in ["client.toml", "operator.token"] {
        fs::copy(place.path("home").join(name), place.path("anna").join(name)).unwrap();
    }
    let said = place.publish("anna", "1.1.0", &[]);
    assert_eq!(said.code, 0, "{}", said.err);
    place.node_takes("1.1.0").unwrap();
    // Her targets are the newest; without her key they must be signed anew.
    place.done(&["keys", "remove", "targets", "anna"]);
    place.node_takes("1.1.0").unwrap();
    assert_ne!(place.publish("anna", "1.2.0", &[]).code, 0);
    assert!(place.refused(&["keys", "remove", "targets", "anna"]).contains("keys status"));
    assert!(place.refused(&["keys", "remove", "targets", "targets"]).contains("threshold"));
}

#[test]
fn the_recovery_key_alone_makes_a_new_owner_whom_nodes_follow() {
    let place = Place::plain();
    place.published("1.0.0", &[]);
    place.published("1.1.0", &[]);
    fs::create_dir(place.path("stick")).unwrap();
    fs::rename(place.owner("recovery.key"), place.path("stick/recovery.key")).unwrap();
    fs::copy(place.owner("1.root.json"), place.path("stick/1.root.json")).unwrap();
    let (ca, token) = (place.path("home/coordinator/ca.pem"), place.path("home/operator.token"));
    let (ca, token) = (ca.to_str().unwrap(), token.to_str().unwrap());
    let settings = fs::read_to_string(place.path("home/client.toml")).unwrap();
    let url = settings.split('"').find(|text| text.starts_with("https://")).unwrap();
    let recover = |more: &[&'static str]| {
        let fixed = ["keys", "recover", "--key", "stick/recovery.key", "--no-passphrase"];
        let coordinator = ["--url", url, "--ca", ca, "--token-file", token];
        [&fixed[..], &coordinator[..], more].concat()
    };
    // A first root of a stranger, and one that is not there.
    fs::write(place.path("other.json"), "{}").unwrap();
    let said = place.in_home("new", 1, &recover(&["--first-root", "other.json"]));
    assert!(said.contains("not the one that was kept"), "{said}");
    let said = place.in_home("new", 1, &recover(&["--first-root", "nowhere.json"]));
    assert!(said.contains("every node has it"), "{said}");

    let said = place.in_home("new", 0, &recover(&[]));
    assert!(said.contains("Root 2 holds") && said.contains("operator-token"), "{said}");
    assert_eq!(place.node().unwrap().versions().root, 2);
    place.node_takes("1.1.0").unwrap();
    let said = place.publish("new", "1.2.0", &[]);
    assert_eq!(said.code, 0, "{}", said.err);
    place.node_takes("1.2.0").unwrap();
    place.node_takes("1.0.0").unwrap();
    // What was on the lost machine counts for nothing any more.
    let said = place.publish("home", "6.6.6", &[]);
    assert_ne!(said.code, 0, "{}", said.out);
    let said = place.pending(&["keys", "rotate", "targets"]);
    assert!(said.contains("Signatures missing: 1"), "{said}");
    let said = place.in_home("new", 1, &recover(&[]));
    assert!(said.contains("has keys already"), "{said}");
}

#[test]
fn a_recovery_without_the_coordinator_is_prepared_from_kept_metadata_and_published_later() {
    let mut place = Place::plain();
    place.published("1.0.0", &[]);
    place.stop();
    let metadata = place.path("home/coordinator/state/metadata");
    let recover = [
        "keys",
        "recover",
        "--key",
        "home/owner/recovery.key",
        "--no-passphrase",
        "--metadata",
        metadata.to_str().unwrap(),
    ];
    let said = place.in_home("new", 2, &recover);
    assert!(said.contains("keys publish"), "{said}");
    let said = place.in_home("new", 2, &recover);
    assert!(said.contains("keys publish"), "the same again goes on: {said}");
    place.serve();
    copy(&place.path("home/coordinator"), &place.path("new/coordinator"));
    for name in ["client.toml", "operator.token"] {
        fs::copy(place.path("home").join(name), place.path("new").join(name)).unwrap();
    }
    place.in_home("new", 0, &["keys", "publish"]);
    place.node_takes("1.0.0").unwrap();
    assert_eq!(place.publish("new", "1.1.0", &[]).code, 0);
    place.node_takes("1.1.0").unwrap();
}
