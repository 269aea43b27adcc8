//! Public keys, their ids, and the check of one signature.

use std::fmt;

use orangery_wire::Digest;
use ring::signature::{ED25519, UnparsedPublicKey};
use serde_json::{Value, json};

use crate::hash::sha256;
use crate::{canonical, hex};

/// A key that can vouch for metadata. Of the specification's kinds Ed25519 is understood; a key of another kind may be
/// listed but never counts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum PublicKey {
    /// RFC 8032, 32 bytes.
    Ed25519([u8; 32]),
}

impl PublicKey {
    /// Its id: SHA-256 of the canonical form of the key object (TUF 4.2.1).
    pub fn id(&self) -> Digest {
        // A key object holds no number, so that it always has a canonical form.
        sha256(&canonical::to_vec(&self.to_value()).unwrap_or_default())
    }

    /// Whether `signature` is this key's over `message`.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Ed25519(bytes) => UnparsedPublicKey::new(&ED25519, bytes).verify(message, signature).is_ok(),
        }
    }

    /// The key object as metadata lists it (TUF 4.2.2).
    pub(crate) fn to_value(self) -> Value {
        match self {
            Self::Ed25519(bytes) => json!({
                "keytype": "ed25519",
                "scheme": "ed25519",
                "keyval": { "public": hex::encode(&bytes) },
            }),
        }
    }

    /// The key listed under `id`. `None` if it is of an unknown kind, or if `id` is not the digest of the whole object:
    /// "clients MUST calculate each KEYID to verify this is correct for the associated key" (TUF 4.3).
    pub(crate) fn from_value(id: &str, listed: &Value) -> Option<Self> {
        let canonical = canonical::to_vec(listed).ok()?;
        if id != sha256(&canonical).to_string() {
            return None;
        }
        let text = |name: &str| listed.get(name).and_then(Value::as_str);
        match (text("keytype")?, text("scheme")?) {
            ("ed25519", "ed25519") => {
                let public = listed.get("keyval")?.get("public")?.as_str()?;
                hex::decode_array(public).map(Self::Ed25519)
            }
            _ => None,
        }
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ed25519(bytes) => write!(f, "ed25519:{}", hex::encode(bytes)),
        }
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
