//! Signs whatever it is told to: the library itself signs only what it would accept.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use orangery_trust::canonical;
use orangery_trust::repository::SigningKey;
use ring::signature::Ed25519KeyPair;
use serde_json::{Value, json};

use crate::origin::sha256;

/// Metadata around `signed`, whatever it says.
pub fn sign(signed: &Value, keys: &[&SigningKey]) -> Vec<u8> {
    let message = canonical::to_vec(signed).unwrap();
    let signatures: Vec<Value> =
        keys.iter().map(|key| json!({ "keyid": key.id().to_string(), "sig": signature(key, &message) })).collect();
    serde_json::to_vec(&json!({ "signatures": signatures, "signed": signed })).unwrap()
}

fn signature(key: &SigningKey, message: &[u8]) -> String {
    let pem = key.to_pem();
    let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&STANDARD.decode(body).unwrap()).unwrap();
    pair.sign(message).as_ref().iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// What metadata says of the file `bytes` of version `version`.
pub fn describe(bytes: &[u8], version: u64) -> Value {
    json!({ "version": version, "length": bytes.len(), "hashes": { "sha256": sha256(bytes) } })
}

/// The content of metadata, without its signatures.
pub fn signed(metadata: &[u8]) -> Value {
    serde_json::from_slice::<Value>(metadata).unwrap()["signed"].take()
}
