//! The envelope around all metadata, and the count of its signatures.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use orangery_wire::UnixTime;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::value::RawValue;

use super::{Metafile, Role, RoleKeys};
use crate::hash::Print;
use crate::key::PublicKey;
use crate::refusal::Refusal;
use crate::{canonical, hex, json, limits, time};

/// Metadata of one role that could be read. Whether to trust it is another question.
#[derive(Debug)]
pub struct Envelope<T> {
    pub content: T,
    pub version: u64,
    pub expires: UnixTime,
    /// When it was signed, if it says so: an addition of ours to the format.
    pub signed_at: Option<UnixTime>,
    pub print: Print,
    /// What the signatures cover.
    canonical: Vec<u8>,
    signatures: BTreeMap<String, Vec<u8>>,
}

/// The part that all roles share (TUF 4.2, 4.3).
#[derive(Deserialize)]
struct Header {
    #[serde(rename = "_type")]
    role: String,
    spec_version: String,
    version: u64,
    expires: String,
    #[serde(default, rename = "x-orangery-signed-at")]
    signed_at: Option<String>,
}

#[derive(Deserialize)]
struct Signature {
    keyid: String,
    sig: String,
}

/// What a role's own part is made of.
pub trait Content: Sized {
    const ROLE: Role;
    /// As it stands in JSON.
    type Raw: DeserializeOwned;
    /// Checks it; the error says what is wrong.
    fn from_raw(raw: Self::Raw) -> Result<Self, String>;
}

impl<T: Content> Envelope<T> {
    /// Reads `bytes`, of which nothing is trusted. The length is looked at before anything is allocated.
    pub fn parse(bytes: &[u8]) -> Result<Self, Refusal> {
        Self::parse_print(bytes, print(bytes, T::ROLE)?)
    }

    /// Reads `bytes` once they are known to have the length and hashes that trusted metadata names, if it names any
    /// (TUF 5.5.2, 5.6.2).
    pub fn parse_named(bytes: &[u8], named: &Metafile) -> Result<Self, Refusal> {
        let print = print(bytes, T::ROLE)?;
        if !named.fits(&print) {
            return Err(Refusal::WrongContent { role: T::ROLE });
        }
        Self::parse_print(bytes, print)
    }

    fn parse_print(bytes: &[u8], print: Print) -> Result<Self, Refusal> {
        Self::read(bytes, print)
            .map_err(|reason| Refusal::Unreadable { role: T::ROLE, reason: orangery_wire::limits::reason(reason) })
    }

    fn read(bytes: &[u8], print: Print) -> Result<Self, String> {
        let Parts { signed, canonical, signatures } = Parts::of(bytes)?;
        let header: Header = serde_json::from_str(&signed).map_err(|err| err.to_string())?;
        header.check(T::ROLE)?;
        let raw: T::Raw = serde_json::from_str(&signed).map_err(|err| err.to_string())?;
        Ok(Self {
            content: T::from_raw(raw)?,
            version: header.version,
            expires: time::parse(&header.expires).ok_or("\"expires\" is not of the form YYYY-MM-DDTHH:MM:SSZ")?,
            // It helps the clock and decides nothing else, so an unreadable one is as good as none.
            signed_at: header.signed_at.as_deref().and_then(time::parse),
            print,
            canonical: canonical.unwrap_or_else(|| signed.into_owned().into_bytes()),
            signatures,
        })
    }

    /// The keys of `role` that have signed this. Each counts once, under however many ids it is listed.
    pub fn signers(&self, role: &RoleKeys) -> BTreeSet<PublicKey> {
        self.signatures
            .iter()
            .filter_map(|(id, signature)| {
                role.keys.get(id).filter(|key| key.verifies(&self.canonical, signature)).cloned()
            })
            .collect()
    }

    /// The signers, if they reach the threshold of `role` (TUF 5.3.4, 5.4.2, 5.5.3, 5.6.3).
    pub fn verify(&self, role: &RoleKeys) -> Result<BTreeSet<PublicKey>, Refusal> {
        let signers = self.signers(role);
        if signers.len() < role.threshold {
            return Err(Refusal::Unsigned { role: T::ROLE, valid: signers.len(), threshold: role.threshold });
        }
        Ok(signers)
    }

    /// Whether it is valid at `now`: the expiry must be higher (TUF 5.3.10, 5.4.4, 5.5.6, 5.6.5).
    pub fn check_expiry(&self, now: UnixTime) -> Result<(), Refusal> {
        if self.expires > now {
            return Ok(());
        }
        Err(Refusal::Expired { role: T::ROLE, expired_at: self.expires, now })
    }
}

/// An envelope, taken apart.
struct Parts<'a> {
    /// Valid JSON in which no name stands twice in an object.
    signed: Cow<'a, str>,
    /// Its canonical form, if that is another text.
    canonical: Option<Vec<u8>>,
    signatures: BTreeMap<String, Vec<u8>>,
}

/// An envelope whose text is canonical.
#[derive(Deserialize)]
struct Canonical<'a> {
    #[serde(borrow)]
    signed: &'a RawValue,
    signatures: Vec<Signature>,
}

impl<'a> Parts<'a> {
    fn of(bytes: &'a [u8]) -> Result<Self, String> {
        // What we have written ourselves is canonical. Anything else takes a tree of values to bring it into that form.
        let Some(text) = std::str::from_utf8(bytes).ok().filter(|text| canonical::is_canonical(text)) else {
            return Self::of_any_form(bytes);
        };
        let Canonical { signed, signatures } = serde_json::from_str(text).map_err(|err| err.to_string())?;
        Ok(Self { signed: signed.get().into(), canonical: None, signatures: by_key(signatures)? })
    }

    fn of_any_form(bytes: &[u8]) -> Result<Self, String> {
        let mut envelope = json::parse(bytes).map_err(|err| err.to_string())?;
        let mut part = |name: &str| envelope.get_mut(name).map(Value::take).ok_or(format!("{name:?} is missing"));
        let signed = part("signed")?;
        let signatures = Vec::<Signature>::deserialize(part("signatures")?).map_err(|err| err.to_string())?;
        let canonical = canonical::to_vec(&signed).map_err(|err| err.to_string())?;
        Ok(Self { signed: signed.to_string().into(), canonical: Some(canonical), signatures: by_key(signatures)? })
    }
}

fn print(bytes: &[u8], role: Role) -> Result<Print, Refusal> {
    let (length, length_max) = (bytes.len() as u64, role.length_max());
    if length > length_max {
        return Err(Refusal::TooLong { role, length, length_max });
    }
    Ok(Print::of(bytes))
}

/// Whether these signers would be enough for a role as it is now: asked of metadata accepted under an earlier root.
pub fn signed_by(signers: &BTreeSet<PublicKey>, role: &RoleKeys) -> bool {
    let current: BTreeSet<&PublicKey> = role.keys.values().collect();
    signers.iter().filter(|signer| current.contains(signer)).count() >= role.threshold
}

impl Header {
    fn check(&self, role: Role) -> Result<(), String> {
        if self.role != role.as_str() {
            return Err(format!("it is metadata of role {:?}", self.role));
        }
        // TUF 4.3: what counts as a match is ours to say. Everything that calls itself 1.x can be read.
        if self.spec_version.split('.').next() != Some("1") {
            return Err(format!(
                "it follows version {:?} of the TUF specification; 1.x is understood",
                self.spec_version
            ));
        }
        if self.version == 0 {
            return Err("its version is 0; versions begin with 1".to_owned());
        }
        Ok(())
    }
}

/// "The keyid MUST be unique in the signatures array" (TUF 4.2.1). A signature that is no lower-case hexadecimal text is
/// one that never verifies; it does not spoil the others.
fn by_key(listed: Vec<Signature>) -> Result<BTreeMap<String, Vec<u8>>, String> {
    if listed.len() > limits::SIGNATURES_MAX {
        return Err(format!("it has {} signatures; at most {} are allowed", listed.len(), limits::SIGNATURES_MAX));
    }
    let mut signatures = BTreeMap::new();
    for Signature { keyid, sig } in listed {
        if signatures.contains_key(&keyid) {
            return Err(format!("it has two signatures of the key {keyid:?}"));
        }
        signatures.insert(keyid, hex::decode(&sig).unwrap_or_default());
    }
    Ok(signatures)
}
