//! Public keys, their ids, and the check of one signature.

mod spki;

use std::fmt;
use std::sync::Arc;

use orangery_wire::Digest;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ED25519, RSA_PSS_2048_8192_SHA256, UnparsedPublicKey, VerificationAlgorithm,
};
use serde_json::{Value, json};

use crate::hash::sha256;
use crate::{canonical, hex};

/// A key that can vouch for metadata: of one of the kinds that the specification names (TUF 4.2.2). A key of another kind
/// may be listed but never counts.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum PublicKey {
    /// Ed25519 (RFC 8032), 32 bytes. All keys that are made here are of this kind.
    Ed25519([u8; 32]),
    /// ECDSA on P-256 with SHA-256: the point, uncompressed (SEC 1 section 2.3.3). Signatures are in ASN.1.
    EcdsaP256([u8; 65]),
    /// RSA-PSS with SHA-256 and a salt of 32 bytes: the `RSAPublicKey` in DER (RFC 8017 appendix A.1.1). A modulus of 2048
    /// to 8192 bits can verify; any other verifies nothing. Shared, for it is long and many roles may name it.
    RsaPss(Arc<[u8]>),
}

impl PublicKey {
    /// Its id: SHA-256 of the canonical form of the key object (TUF 4.2.1).
    ///
    /// A key object may hold more than the key, and then is listed under another id than this one.
    pub fn id(&self) -> Digest {
        // A key object holds no number, so that it always has a canonical form.
        sha256(&canonical::to_vec(&self.to_value()).unwrap_or_default())
    }

    /// Whether `signature` is this key's over `message`.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let (algorithm, key): (&'static dyn VerificationAlgorithm, &[u8]) = match self {
            Self::Ed25519(key) => (&ED25519, key),
            Self::EcdsaP256(point) => (&ECDSA_P256_SHA256_ASN1, point),
            Self::RsaPss(key) => (&RSA_PSS_2048_8192_SHA256, key),
        };
        UnparsedPublicKey::new(algorithm, key).verify(message, signature).is_ok()
    }

    /// The key object as metadata lists it (TUF 4.2.2).
    pub(crate) fn to_value(&self) -> Value {
        let (keytype, scheme, public) = match self {
            Self::Ed25519(key) => ("ed25519", "ed25519", hex::encode(key)),
            Self::EcdsaP256(point) => ("ecdsa", "ecdsa-sha2-nistp256", spki::p256_to_pem(point)),
            Self::RsaPss(key) => ("rsa", "rsassa-pss-sha256", spki::rsa_to_pem(key)),
        };
        json!({ "keytype": keytype, "scheme": scheme, "keyval": { "public": public } })
    }

    /// The key listed under `id`. `None` if it is of an unknown kind, or if `id` is not the digest of the whole object:
    /// "clients MUST calculate each KEYID to verify this is correct for the associated key" (TUF 4.3).
    pub(crate) fn from_value(id: &str, listed: &Value) -> Option<Self> {
        let canonical = canonical::to_vec(listed).ok()?;
        if id != sha256(&canonical).to_string() {
            return None;
        }
        let text = |name: &str| listed.get(name).and_then(Value::as_str);
        let public = listed.get("keyval")?.get("public")?.as_str()?;
        match (text("keytype")?, text("scheme")?) {
            ("ed25519", "ed25519") => hex::decode_array(public).map(Self::Ed25519),
            // The second name of the kind is that of repositories from before version 1.0.18.
            ("ecdsa" | "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp256") => spki::p256(public).map(Self::EcdsaP256),
            ("rsa", "rsassa-pss-sha256") => spki::rsa(public).map(|key| Self::RsaPss(key.into())),
            _ => None,
        }
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ed25519(key) => write!(f, "ed25519:{}", hex::encode(key)),
            Self::EcdsaP256(point) => write!(f, "ecdsa-p256:{}", hex::encode(point)),
            // It is long: its digest names it.
            Self::RsaPss(key) => write!(f, "rsa-pss:sha256:{}", sha256(key)),
        }
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
