//! Counting signatures: thresholds, and the ways to make one key look like several (TUF 4.2.1, 5.3.4).

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use common::{Client, NOW, Repo, key, sign, signature};
use orangery_trust::limits::KEYS_MAX;
use orangery_trust::repository::{BuildError, KeyHolders, RootContent, SigningKey, sign_root};
use orangery_trust::{Refusal, Role, canonical};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::{Value, json};

/// A repository whose timestamp needs two of three keys, and those keys.
fn two_of_three() -> (Repo, [SigningKey; 3]) {
    let mut repo = Repo::new();
    let keys = [key(), key(), key()];
    let publics = keys.each_ref().map(SigningKey::public);
    repo.rotate(|root| root.timestamp = KeyHolders { keys: publics.into(), threshold: 2 });
    (repo, keys)
}

fn with_timestamp(repo: &mut Repo, bytes: Vec<u8>) -> Result<(), Refusal> {
    repo.files.insert("timestamp.json".to_owned(), bytes);
    Client::of(repo).refresh(repo)
}

fn unsigned(valid: usize, threshold: usize) -> Refusal {
    Refusal::Unsigned { role: Role::Timestamp, valid, threshold }
}

#[test]
fn a_threshold_is_met_by_different_keys_only() {
    let (mut repo, [a, b, c]) = two_of_three();
    let timestamp = |keys: &[&SigningKey]| repo.forged("timestamp.json", keys, |_| {});
    let (one, two, three) = (timestamp(&[&a]), timestamp(&[&a, &c]), timestamp(&[&c, &b, &a]));
    let stranger = timestamp(&[&a, &key(), &repo.root]);
    assert_eq!(with_timestamp(&mut repo, one), Err(unsigned(1, 2)));
    assert_eq!(with_timestamp(&mut repo, stranger), Err(unsigned(1, 2)));
    assert_eq!(with_timestamp(&mut repo, two), Ok(()));
    assert_eq!(with_timestamp(&mut repo, three), Ok(()));
}

#[test]
fn one_signature_twice_is_refused() {
    let (mut repo, [a, ..]) = two_of_three();
    let mut metadata: Value = serde_json::from_slice(&repo.forged("timestamp.json", &[&a], |_| {})).unwrap();
    let again = metadata["signatures"][0].clone();
    metadata["signatures"].as_array_mut().unwrap().push(again);
    let outcome = with_timestamp(&mut repo, serde_json::to_vec(&metadata).unwrap());
    assert!(matches!(outcome, Err(Refusal::Unreadable { role: Role::Timestamp, .. })), "{outcome:?}");
}

#[test]
fn one_key_under_two_ids_counts_once() {
    // A field beside the key changes its id but not the key. Both ids are right by the letter of the specification.
    let mut repo = Repo::new();
    let plain = key();
    let public = common::hex(match &plain.public() {
        orangery_trust::PublicKey::Ed25519(bytes) => bytes,
        other => panic!("{other}"),
    });
    let other = json!({ "keytype": "ed25519", "scheme": "ed25519", "keyval": { "public": public }, "x": 1 });
    let other_id = sha256(&canonical::to_vec(&other).unwrap());
    repo.rotate(|root| root.timestamp = KeyHolders::any_of([plain.public(), key().public()]));
    let root = repo.forged("2.root.json", &[&repo.root], |signed| {
        signed["keys"][&other_id] = other.clone();
        signed["roles"]["timestamp"] = json!({ "keyids": [plain.id().to_string(), other_id], "threshold": 2 });
    });
    repo.files.insert("2.root.json".to_owned(), root);

    let mut metadata: Value = serde_json::from_slice(&repo.forged("timestamp.json", &[&plain], |_| {})).unwrap();
    let sig = metadata["signatures"][0]["sig"].clone();
    metadata["signatures"].as_array_mut().unwrap().push(json!({ "keyid": other_id, "sig": sig }));
    assert_eq!(with_timestamp(&mut repo, serde_json::to_vec(&metadata).unwrap()), Err(unsigned(1, 2)));

    // With a threshold of 1 the second id alone suffices, so that what was counted above is really valid.
    let root = repo.forged("2.root.json", &[&repo.root], |signed| signed["roles"]["timestamp"]["threshold"] = 1.into());
    repo.files.insert("2.root.json".to_owned(), root);
    metadata["signatures"].as_array_mut().unwrap().remove(0);
    assert_eq!(with_timestamp(&mut repo, serde_json::to_vec(&metadata).unwrap()), Ok(()));
}

#[test]
fn a_key_under_a_wrong_id_never_counts() {
    let mut repo = Repo::new();
    repo.rotate(|_| {});
    let (own, wrong) = (repo.online.timestamp.id().to_string(), "0".repeat(64));
    let root = repo.forged("2.root.json", &[&repo.root], |signed| {
        let listed = signed["keys"].as_object_mut().unwrap().remove(&own).unwrap();
        signed["keys"][&wrong] = listed;
        signed["roles"]["timestamp"]["keyids"] = json!([wrong]);
    });
    repo.files.insert("2.root.json".to_owned(), root);
    let mut metadata: Value = serde_json::from_slice(&repo.files["timestamp.json"]).unwrap();
    metadata["signatures"][0]["keyid"] = wrong.into();
    assert_eq!(with_timestamp(&mut repo, serde_json::to_vec(&metadata).unwrap()), Err(unsigned(0, 1)));
}

#[test]
fn a_key_listed_many_times_in_a_role_counts_once() {
    let (mut repo, [a, ..]) = two_of_three();
    let id = a.id().to_string();
    let root = repo.forged("2.root.json", &[&repo.root], |signed| {
        signed["roles"]["timestamp"]["keyids"] = json!([id, id, id]);
    });
    repo.files.insert("2.root.json".to_owned(), root);
    let bytes = repo.forged("timestamp.json", &[&a], |_| {});
    assert_eq!(with_timestamp(&mut repo, bytes), Err(unsigned(1, 2)));
}

#[test]
fn a_bad_signature_beside_enough_good_ones_does_no_harm() {
    let (mut repo, [a, b, c]) = two_of_three();
    let good = repo.forged("timestamp.json", &[&a, &b], |_| {});
    let other_text = signature(&c, b"something else");
    let upper = signature(&c, b"x").to_uppercase();
    for bad in ["", "zz", "00", &other_text, &upper, &"ab".repeat(10_000 / 2)] {
        let mut metadata: Value = serde_json::from_slice(&good).unwrap();
        let entry = json!({ "keyid": c.id().to_string(), "sig": bad });
        metadata["signatures"].as_array_mut().unwrap().insert(0, entry);
        assert_eq!(with_timestamp(&mut repo, serde_json::to_vec(&metadata).unwrap()), Ok(()), "{bad:.20}");
    }
}

#[test]
fn more_signatures_than_any_owner_has_are_refused_before_they_are_checked() {
    let (mut repo, [a, b, _]) = two_of_three();
    let mut metadata: Value = serde_json::from_slice(&repo.forged("timestamp.json", &[&a, &b], |_| {})).unwrap();
    let signatures = metadata["signatures"].as_array_mut().unwrap();
    signatures.extend((0..63).map(|n| json!({ "keyid": n.to_string(), "sig": "" })));
    let outcome = with_timestamp(&mut repo, serde_json::to_vec(&metadata).unwrap());
    assert!(matches!(outcome, Err(Refusal::Unreadable { .. })), "{outcome:?}");
}

#[test]
fn a_threshold_of_none_or_of_more_keys_than_there_are_is_refused() {
    let repo = Repo::new();
    let mut content = RootContent::next(&repo.latest_root, NOW, NOW + 1).unwrap();
    for threshold in [0, 2] {
        content.snapshot.threshold = threshold;
        let refused = sign_root(&content, &[&repo.root], Some(&repo.latest_root));
        assert_eq!(refused, Err(BuildError::Threshold { role: Role::Snapshot, threshold, keys: 1 }));
    }
    // What another tool signs all the same: 0 is unreadable, and too many can never be met.
    let mut signed: Value = serde_json::from_slice::<Value>(&repo.latest_root).unwrap()["signed"].clone();
    signed["roles"]["root"]["threshold"] = 0.into();
    let client = Client::new(&sign(&signed, &[&repo.root]));
    let refusal = orangery_trust::TrustedSet::load(&client.stored).map(|_| ()).unwrap_err();
    assert!(matches!(refusal, Refusal::Unreadable { role: Role::Root, .. }), "{refusal}");
    signed["roles"]["root"]["threshold"] = 3.into();
    let client = Client::new(&sign(&signed, &[&repo.root, &repo.recovery]));
    let refusal = orangery_trust::TrustedSet::load(&client.stored).map(|_| ()).unwrap_err();
    assert_eq!(refusal, Refusal::Unsigned { role: Role::Root, valid: 2, threshold: 3 });
}

/// A P-256 key as metadata lists it, and the key itself.
fn ecdsa_key(keytype: &str) -> (String, Value, EcdsaKeyPair) {
    let random = SystemRandom::new();
    let algorithm = &ECDSA_P256_SHA256_ASN1_SIGNING;
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
    let pair = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &random).unwrap();
    // RFC 5480: the point behind a fixed beginning.
    let begin =
        b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00";
    let body = STANDARD.encode([begin, pair.public_key().as_ref()].concat());
    let public = format!("-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----\n");
    let listed = json!({ "keytype": keytype, "scheme": "ecdsa-sha2-nistp256", "keyval": { "public": public } });
    (sha256(&canonical::to_vec(&listed).unwrap()), listed, pair)
}

#[test]
fn an_ecdsa_key_counts_under_both_names_of_its_kind_and_under_no_other() {
    for (keytype, counts) in [("ecdsa", 1), ("ecdsa-sha2-nistp256", 1), ("ecdsa-sha2-nistp384", 0), ("rsa", 0)] {
        let mut repo = Repo::new();
        repo.rotate(|_| {});
        let (id, listed, pair) = ecdsa_key(keytype);
        let root = repo.forged("2.root.json", &[&repo.root], |signed| {
            signed["keys"][&id] = listed;
            signed["roles"]["timestamp"] = json!({ "keyids": [id], "threshold": 1 });
        });
        repo.files.insert("2.root.json".to_owned(), root);
        let mut metadata: Value = serde_json::from_slice(&repo.files["timestamp.json"]).unwrap();
        let message = canonical::to_vec(&metadata["signed"]).unwrap();
        let sig = pair.sign(&SystemRandom::new(), &message).unwrap();
        metadata["signatures"] = json!([{ "keyid": id, "sig": common::hex(sig.as_ref()) }]);
        let outcome = with_timestamp(&mut repo, serde_json::to_vec(&metadata).unwrap());
        assert_eq!(outcome, if counts == 1 { Ok(()) } else { Err(unsigned(0, 1)) }, "{keytype}");
        metadata["signed"]["version"] = 2.into();
        let outcome = with_timestamp(&mut repo, serde_json::to_vec(&metadata).unwrap());
        assert_eq!(outcome, Err(unsigned(0, 1)), "{keytype}: the signature is of something else");
    }
}

#[test]
fn one_key_in_two_spellings_of_pem_counts_once() {
    let mut repo = Repo::new();
    repo.rotate(|_| {});
    let (id, listed, pair) = ecdsa_key("ecdsa");
    let mut other = listed.clone();
    other["keyval"]["public"] = listed["keyval"]["public"].as_str().unwrap().trim().into();
    let other_id = sha256(&canonical::to_vec(&other).unwrap());
    let root = repo.forged("2.root.json", &[&repo.root], |signed| {
        signed["keys"][&id] = listed;
        signed["keys"][&other_id] = other;
        signed["roles"]["timestamp"] = json!({ "keyids": [id, other_id], "threshold": 2 });
    });
    repo.files.insert("2.root.json".to_owned(), root);
    let mut metadata: Value = serde_json::from_slice(&repo.files["timestamp.json"]).unwrap();
    let message = canonical::to_vec(&metadata["signed"]).unwrap();
    let sig = || common::hex(pair.sign(&SystemRandom::new(), &message).unwrap().as_ref());
    metadata["signatures"] = json!([{ "keyid": id, "sig": sig() }, { "keyid": other_id, "sig": sig() }]);
    assert_eq!(with_timestamp(&mut repo, serde_json::to_vec(&metadata).unwrap()), Err(unsigned(1, 2)));
}

#[test]
fn more_keys_than_any_owner_has_are_refused_before_they_are_read() {
    let mut repo = Repo::new();
    repo.rotate(|_| {});
    let root = repo.forged("2.root.json", &[&repo.root], |signed| {
        for number in 0..KEYS_MAX {
            signed["keys"][number.to_string()] = json!({});
        }
    });
    repo.files.insert("2.root.json".to_owned(), root);
    let refusal = Client::of(&repo).refresh(&repo).unwrap_err();
    assert!(matches!(refusal, Refusal::Unreadable { role: Role::Root, .. }), "{refusal}");
}

fn sha256(bytes: &[u8]) -> String {
    common::hex(ring::digest::digest(&ring::digest::SHA256, bytes).as_ref())
}
