//! The common part of making metadata: header, canonical form, signatures.

use orangery_wire::UnixTime;
use serde_json::{Map, Value, json};

use super::SigningKey;
use crate::metadata::Role;
use crate::{canonical, hex, time};

/// The version of the specification that is followed (TUF 4.3).
const SPEC_VERSION: &str = "1.0.34";

/// What every role's metadata begins with.
#[derive(Debug, Clone, Copy)]
pub struct Header {
    pub role: Role,
    pub version: u64,
    pub signed_at: UnixTime,
    pub expires: UnixTime,
}

/// What is signed: `content` under the header.
pub fn content_of(header: Header, content: Map<String, Value>) -> Value {
    let mut signed = content;
    signed.insert("_type".to_owned(), header.role.as_str().into());
    signed.insert("spec_version".to_owned(), SPEC_VERSION.into());
    signed.insert("version".to_owned(), header.version.into());
    signed.insert("expires".to_owned(), time::format(header.expires).into());
    signed.insert("x-orangery-signed-at".to_owned(), time::format(header.signed_at).into());
    Value::Object(signed)
}

/// The file: `content` under the header, signed by `keys`, each once. It has no white space, so that its bytes are
/// themselves canonical.
pub fn sign(header: Header, content: Map<String, Value>, keys: &[&SigningKey]) -> Vec<u8> {
    let signed = content_of(header, content);
    let message = to_bytes(&signed);

    let mut keys = keys.to_vec();
    keys.sort_by_key(|key| key.id());
    keys.dedup_by_key(|key| key.id());
    let signatures: Vec<Value> = keys
        .into_iter()
        .map(|key| json!({ "keyid": key.id().to_string(), "sig": hex::encode(&key.sign(&message)) }))
        .collect();
    to_bytes(&json!({ "signatures": signatures, "signed": signed }))
}

/// Numbers that we write are integers. Custom fields of targets may come from elsewhere; an empty file, which no reader
/// accepts, is what a fraction among them ends in.
pub fn to_bytes(value: &Value) -> Vec<u8> {
    canonical::to_vec(value).unwrap_or_default()
}
