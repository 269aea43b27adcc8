//! A root that is still being signed: several keys on several machines put their signatures under the same bytes, one
//! after the other.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::build::{Header, content_of, to_bytes};
use super::root::{RootContent, VerifiedRoot, check_thresholds, names_in, to_map, verify_root};
use super::{BuildError, SigningKey};
use crate::client::{Stored, TrustedSet};
use crate::key::PublicKey;
use crate::metadata::{Envelope, Role, Root};
use crate::refusal::Refusal;
use crate::{canonical, hex, json};

/// What people call keys. The root carries the names, signed, so that whoever has to replace a lost key knows which one it is.
pub type KeyNames = BTreeMap<PublicKey, String>;

/// A root with the signatures that it has so far, which may be too few or none.
#[derive(Debug)]
pub struct Draft {
    bytes: Vec<u8>,
    envelope: Envelope<Root>,
    names: KeyNames,
}

impl Draft {
    /// A root that nobody has signed yet.
    ///
    /// # Errors
    /// [`BuildError::Threshold`] for a threshold that cannot be reached.
    pub fn new(content: &RootContent, names: &KeyNames) -> Result<Self, BuildError> {
        check_thresholds(content)?;
        let header = Header {
            role: Role::Root,
            version: content.version,
            signed_at: content.signed_at,
            expires: content.expires,
        };
        let signed = content_of(header, to_map(content, names));
        Ok(Self::read(&to_bytes(&json!({ "signatures": [], "signed": signed })))?)
    }

    /// Reads a root. Its signatures are counted later, and nothing of it is trusted.
    ///
    /// # Errors
    /// [`Refusal`] if it is too long or no root.
    pub fn read(bytes: &[u8]) -> Result<Self, Refusal> {
        let envelope = Envelope::<Root>::parse(bytes)?;
        Ok(Self { names: names_in(bytes, &envelope.content), bytes: bytes.to_vec(), envelope })
    }

    /// The file as it is now.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What it will say once it is trusted.
    pub fn content(&self) -> RootContent {
        let Envelope { version, expires, signed_at, content, .. } = &self.envelope;
        RootContent::of(*version, signed_at.unwrap_or(0), *expires, content)
    }

    /// What people call its keys.
    pub fn names(&self) -> &KeyNames {
        &self.names
    }

    /// Adds a signature of each of `keys`. A key that has signed is left out: the same again changes nothing.
    ///
    /// # Errors
    /// [`Refusal`] if there would be more signatures than any reader takes.
    pub fn sign(&self, keys: &[&SigningKey]) -> Result<Self, BuildError> {
        let unreadable = |reason: String| Refusal::Unreadable { role: Role::Root, reason };
        let mut envelope = json::parse(&self.bytes).map_err(|error| unreadable(error.to_string()))?;
        let signed = envelope.get("signed").cloned().unwrap_or_default();
        let message = canonical::to_vec(&signed).map_err(|error| unreadable(error.to_string()))?;
        let listed = envelope.get_mut("signatures").and_then(Value::as_array_mut);
        let listed = listed.ok_or_else(|| unreadable("\"signatures\" is missing".to_owned()))?;
        for key in keys {
            let id = key.id().to_string();
            listed.retain(|signature| signature.get("keyid").and_then(Value::as_str) != Some(&id));
            listed.push(json!({ "keyid": id, "sig": hex::encode(&key.sign(&message)) }));
        }
        listed.sort_by_key(|signature| signature.get("keyid").map(ToString::to_string));
        Ok(Self::read(&to_bytes(&envelope))?)
    }

    /// The same root with the signatures of both; `None` if `other` says something else.
    ///
    /// # Errors
    /// [`Refusal`] if there would be more signatures than any reader takes.
    pub fn merge(&self, other: &Self) -> Result<Option<Self>, Refusal> {
        let (mut ours, theirs) = (json::parse(&self.bytes), json::parse(&other.bytes));
        let (Ok(ours), Ok(theirs)) = (&mut ours, &theirs) else { return Ok(None) };
        if ours.get("signed") != theirs.get("signed") {
            return Ok(None);
        }
        let key_id = |signature: &Value| signature.get("keyid").map(ToString::to_string);
        let more = theirs.get("signatures").and_then(Value::as_array).cloned().unwrap_or_default();
        if let Some(listed) = ours.get_mut("signatures").and_then(Value::as_array_mut) {
            for signature in more {
                if listed.iter().all(|there| key_id(there) != key_id(&signature)) {
                    listed.push(signature);
                }
            }
            listed.sort_by_key(key_id);
        }
        Self::read(&to_bytes(ours)).map(Some)
    }

    /// Which of its own root keys have signed.
    pub fn signers(&self) -> BTreeSet<PublicKey> {
        self.envelope.signers(&self.envelope.content.root)
    }

    /// Which root keys of the root before it have signed.
    pub fn signers_of(&self, before: &VerifiedRoot) -> BTreeSet<PublicKey> {
        self.envelope.signers(&before.content.root)
    }

    /// Whether nodes that trust `before` would take it: the next version, with enough signatures of both (TUF 5.3.4, 5.3.5).
    ///
    /// # Errors
    /// [`Refusal`]
    pub fn check_follows(&self, before: &[u8]) -> Result<VerifiedRoot, Refusal> {
        let roots = vec![before.to_vec(), self.bytes.clone()];
        TrustedSet::load(&Stored { roots, ..Stored::default() })?;
        verify_root(&self.bytes)
    }
}
