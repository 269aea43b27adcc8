//! Digests of whole files, by ring.

use std::collections::BTreeMap;

use orangery_wire::Digest;
use ring::digest;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::hex;

/// SHA-256 of `bytes`.
pub fn sha256(bytes: &[u8]) -> Digest {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    Digest(out)
}

fn sha512(bytes: &[u8]) -> [u8; 64] {
    let mut out = [0; 64];
    out.copy_from_slice(digest::digest(&digest::SHA512, bytes).as_ref());
    out
}

/// What is remembered of a file's bytes once they are gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Print {
    length: u64,
    sha256: Digest,
    sha512: [u8; 64],
}

impl Print {
    pub fn of(bytes: &[u8]) -> Self {
        Self { length: bytes.len() as u64, sha256: sha256(bytes), sha512: sha512(bytes) }
    }

    /// Whether a file of `length`, if that is known, and `hashes`, if there are any, can be this one.
    pub fn fits(&self, length: Option<u64>, hashes: Option<&Hashes>) -> bool {
        length.is_none_or(|length| length == self.length) && hashes.is_none_or(|hashes| hashes.hold_for(self))
    }
}

/// The hashes that metadata lists for a file. Those of unknown algorithms are not kept; a file for which no known one is
/// listed fits nothing.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "BTreeMap<String, String>")]
pub struct Hashes {
    sha256: Option<Digest>,
    sha512: Option<[u8; 64]>,
}

impl TryFrom<BTreeMap<String, String>> for Hashes {
    type Error = &'static str;

    fn try_from(listed: BTreeMap<String, String>) -> Result<Self, Self::Error> {
        Self::from_text(&listed).ok_or("hashes are empty or malformed")
    }
}

impl Hashes {
    pub fn of_sha256(digest: Digest) -> Self {
        Self { sha256: Some(digest), sha512: None }
    }

    /// From `{ALGORITHM: HEX}`; `None` if it is empty or a known algorithm's digest has the wrong form.
    pub fn from_text(listed: &BTreeMap<String, String>) -> Option<Self> {
        if listed.is_empty() {
            return None;
        }
        let sha256 = listed.get("sha256").map(|text| hex::decode_array(text).map(Digest).ok_or(())).transpose().ok()?;
        let sha512 = listed.get("sha512").map(|text| hex::decode_array(text).ok_or(())).transpose().ok()?;
        Some(Self { sha256, sha512 })
    }

    pub fn sha256(&self) -> Option<Digest> {
        self.sha256
    }

    /// As metadata lists them.
    pub fn to_value(&self) -> Value {
        let mut listed = Map::new();
        if let Some(digest) = self.sha256 {
            listed.insert("sha256".to_owned(), digest.to_string().into());
        }
        if let Some(digest) = self.sha512 {
            listed.insert("sha512".to_owned(), hex::encode(&digest).into());
        }
        Value::Object(listed)
    }

    fn hold_for(&self, print: &Print) -> bool {
        (self.sha256.is_some() || self.sha512.is_some())
            && self.sha256.is_none_or(|digest| digest == print.sha256)
            && self.sha512.is_none_or(|digest| digest == print.sha512)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(pairs: &[(&str, &str)]) -> Option<Hashes> {
        Hashes::from_text(&pairs.iter().map(|(name, hex)| ((*name).to_owned(), (*hex).to_owned())).collect())
    }

    #[test]
    fn every_known_hash_must_hold_and_one_must_be_known() {
        let print = Print::of(b"abc");
        // FIPS 180-4, example "abc".
        let right = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let long = "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f";
        let fits = |pairs: &[(&str, &str)]| listed(pairs).is_some_and(|hashes| print.fits(Some(3), Some(&hashes)));
        assert!(fits(&[("sha256", right)]));
        assert!(fits(&[("sha512", long)]));
        assert!(fits(&[("sha256", right), ("sha512", long), ("blake9", "00")]));
        assert!(!fits(&[("blake9", "00")]));
        assert!(!fits(&[("sha256", &"0".repeat(64)), ("sha512", long)]));
        assert!(!fits(&[("sha256", right), ("sha512", &"0".repeat(128))]));
        assert!(!fits(&[("sha256", &right.to_uppercase())]));
        assert!(!fits(&[]));
        assert!(!print.fits(Some(4), None));
        assert!(print.fits(None, None));
    }
}
