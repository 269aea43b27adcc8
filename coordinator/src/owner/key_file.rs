//! A private key of the owner in a file: sealed with a passphrase, or, from before or by choice, plain PEM.
//!
//! A sealed one is JSON. Its header says whose key it is, so that `keys status` needs no passphrase, and how the passphrase
//! becomes a key (Argon2id, RFC 9106); the whole header is authenticated (ChaCha20-Poly1305, RFC 8439). What a header may ask
//! for is bounded: a file from a stranger can exhaust neither memory nor patience.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use orangery_trust::PublicKey;
use orangery_trust::repository::{SigningKey, read_public_key};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom as _, SystemRandom};
use serde::{Deserialize, Serialize};

use super::passphrase::{Passphrase, Passphrases};
use super::{OwnerError, write_file};

const FORMAT: &str = "orangery-key-1";
/// Largest key file, in bytes.
const FILE_BYTES_MAX: u64 = 16 * 1024;
const SALT_BYTES: usize = 16;
/// Most memory that opening a key may take, in KiB: 256 MiB.
const MEMORY_KIB_MAX: u32 = 256 * 1024;
/// Most passes over the memory, and most of both together, in KiB: some seconds on a small board.
const PASSES_MAX: u32 = 16;
const WORK_KIB_MAX: u64 = 1024 * 1024;

/// What opening a key costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cost {
    /// Memory, in KiB.
    pub memory_kib: u32,
    /// Passes over it.
    pub passes: u32,
}

impl Default for Cost {
    /// The second recommendation of RFC 9106 section 4, on one lane: 64 MiB, three passes.
    fn default() -> Self {
        Self { memory_kib: 64 * 1024, passes: 3 }
    }
}

impl Cost {
    /// One pass over `memory_kib`. Less than the default is for tests alone.
    pub fn of_memory(memory_kib: u32) -> Self {
        Self { memory_kib, passes: 1 }
    }

    fn is_bounded(self) -> bool {
        (8..=MEMORY_KIB_MAX).contains(&self.memory_kib)
            && (1..=PASSES_MAX).contains(&self.passes)
            && u64::from(self.memory_kib) * u64::from(self.passes) <= WORK_KIB_MAX
    }
}

/// How new key files are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seal {
    /// As plain PEM: whoever can read the file has the key.
    None,
    /// Sealed with a passphrase.
    Passphrase(Passphrase, Cost),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    format: String,
    public: String,
    kdf: String,
    cost: Cost,
    salt: String,
    cipher: String,
    nonce: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SealedKey {
    header: Header,
    sealed: String,
}

/// A key file that was read. A sealed one is still sealed.
#[derive(Debug)]
pub struct KeyFile {
    path: PathBuf,
    public: PublicKey,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Plain(Box<SigningKey>),
    Sealed(Box<SealedKey>),
}

impl KeyFile {
    /// Reads a key file of either kind.
    ///
    /// # Errors
    /// [`OwnerError::Read`], [`OwnerError::Key`], [`OwnerError::KeyFile`].
    pub fn read(path: &Path) -> Result<Self, OwnerError> {
        let text = read_bounded(path)?;
        let path = path.to_owned();
        if !text.trim_start().starts_with('{') {
            let key = SigningKey::from_pem(&text).map_err(|source| OwnerError::Key { path: path.clone(), source })?;
            return Ok(Self { path, public: key.public(), content: Content::Plain(Box::new(key)) });
        }
        match read_sealed(&text) {
            Ok((sealed, public)) => Ok(Self { path, public, content: Content::Sealed(Box::new(sealed)) }),
            Err(reason) => Err(OwnerError::KeyFile { path, reason }),
        }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whose key it is.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// What opening it costs; `None` for a plain one.
    pub fn cost(&self) -> Option<Cost> {
        match &self.content {
            Content::Plain(_) => None,
            Content::Sealed(sealed) => Some(sealed.header.cost),
        }
    }

    /// The key.
    ///
    /// # Errors
    /// [`OwnerError::Passphrase`] if there is none, [`OwnerError::WrongPassphrase`].
    pub fn open(&self, passphrases: &Passphrases) -> Result<SigningKey, OwnerError> {
        let pem = match &self.content {
            Content::Plain(key) => key.to_pem(),
            Content::Sealed(sealed) => passphrases
                .open(&self.path, |passphrase| sealed.open(passphrase))?
                .ok_or_else(|| OwnerError::WrongPassphrase { path: self.path.clone() })?,
        };
        let key = SigningKey::from_pem(&pem).map_err(|source| OwnerError::Key { path: self.path.clone(), source })?;
        if key.public() != self.public {
            let reason = "the key in it is not the one that its header names".to_owned();
            return Err(OwnerError::KeyFile { path: self.path.clone(), reason });
        }
        Ok(key)
    }

    /// How this one is kept, so that another key can be kept alike.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn seal(&self, passphrases: &Passphrases) -> Result<Seal, OwnerError> {
        let Content::Sealed(sealed) = &self.content else { return Ok(Seal::None) };
        let right = |passphrase: &Passphrase| sealed.open(passphrase).map(|_| passphrase.clone());
        let passphrase = passphrases.open(&self.path, right)?;
        let passphrase = passphrase.ok_or_else(|| OwnerError::WrongPassphrase { path: self.path.clone() })?;
        Ok(Seal::Passphrase(passphrase, sealed.header.cost))
    }

    /// Writes `key` to `path`, for its owner alone.
    ///
    /// # Errors
    /// [`OwnerError::Write`], [`OwnerError::KeyFile`] if the system has no random numbers or not the memory.
    pub fn write(path: &Path, key: &SigningKey, seal: &Seal) -> Result<(), OwnerError> {
        let text = match seal {
            Seal::None => key.to_pem(),
            Seal::Passphrase(passphrase, cost) => SealedKey::seal(key, passphrase, *cost)
                .and_then(|sealed| serde_json::to_string_pretty(&sealed).ok())
                .map(|text| text + "\n")
                .ok_or_else(|| OwnerError::KeyFile {
                    path: path.to_owned(),
                    reason: "it cannot be sealed: no random numbers, or too little memory".to_owned(),
                })?,
        };
        write_file(path, text.as_bytes(), 0o600)
    }
}

impl SealedKey {
    fn seal(key: &SigningKey, passphrase: &Passphrase, cost: Cost) -> Option<Self> {
        let random = SystemRandom::new();
        let (mut salt, mut nonce) = ([0; SALT_BYTES], [0; NONCE_LEN]);
        random.fill(&mut salt).ok()?;
        random.fill(&mut nonce).ok()?;
        let header = Header {
            format: FORMAT.to_owned(),
            public: key.public().to_string(),
            kdf: "argon2id".to_owned(),
            cost,
            salt: STANDARD.encode(salt),
            cipher: "chacha20-poly1305".to_owned(),
            nonce: STANDARD.encode(nonce),
        };
        let mut sealed = key.to_pem().into_bytes();
        let key = header.key(passphrase)?;
        key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), header.aad()?, &mut sealed).ok()?;
        Some(Self { header, sealed: STANDARD.encode(sealed) })
    }

    /// The key in PEM; `None` for a wrong passphrase, and for a file that was changed.
    fn open(&self, passphrase: &Passphrase) -> Option<String> {
        let nonce: [u8; NONCE_LEN] = STANDARD.decode(&self.header.nonce).ok()?.try_into().ok()?;
        let mut sealed = STANDARD.decode(&self.sealed).ok()?;
        let key = self.header.key(passphrase)?;
        let opened = key.open_in_place(Nonce::assume_unique_for_key(nonce), self.header.aad()?, &mut sealed).ok()?;
        String::from_utf8(opened.to_vec()).ok()
    }
}

impl Header {
    fn key(&self, passphrase: &Passphrase) -> Option<LessSafeKey> {
        let salt = STANDARD.decode(&self.salt).ok()?;
        let params = Params::new(self.cost.memory_kib, self.cost.passes, 1, Some(32)).ok()?;
        let mut key = [0; 32];
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        argon2.hash_password_into(passphrase.bytes(), &salt, &mut key).ok()?;
        UnboundKey::new(&CHACHA20_POLY1305, &key).ok().map(LessSafeKey::new)
    }

    /// What is authenticated beside the key: every field of the header, in the order of its type.
    fn aad(&self) -> Option<Aad<Vec<u8>>> {
        serde_json::to_vec(self).ok().map(Aad::from)
    }
}

fn read_bounded(path: &Path) -> Result<String, OwnerError> {
    let failed = |source| OwnerError::Read { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    File::open(path).map_err(failed)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        let reason = format!("it has more than {FILE_BYTES_MAX} bytes");
        return Err(OwnerError::KeyFile { path: path.to_owned(), reason });
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Nothing is computed before all of it is known to be within bounds.
fn read_sealed(text: &str) -> Result<(SealedKey, PublicKey), String> {
    let sealed: SealedKey = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let header = &sealed.header;
    if (header.format.as_str(), header.kdf.as_str(), header.cipher.as_str())
        != (FORMAT, "argon2id", "chacha20-poly1305")
    {
        return Err("it is sealed in a way that this version does not know; a newer orangery may".to_owned());
    }
    if !header.cost.is_bounded() {
        return Err(format!(
            "opening it would take {} KiB of memory {} times; at most {MEMORY_KIB_MAX} KiB and {WORK_KIB_MAX} KiB in all are allowed",
            header.cost.memory_kib, header.cost.passes
        ));
    }
    let public = read_public_key(&header.public).ok_or("it does not name its public key")?;
    Ok((sealed, public))
}

#[cfg(test)]
#[path = "key_file_tests.rs"]
mod tests;
