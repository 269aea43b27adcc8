//! Private keys: made by ring, kept as PKCS#8 in PEM.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use orangery_wire::Digest;
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair as _};

use crate::hex;
use crate::key::PublicKey;

const BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const END: &str = "-----END PRIVATE KEY-----";

/// Why there is no signing key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The system gave no random numbers.
    #[error("cannot make a signing key: the system's random number source failed")]
    Random,
    /// The text is no private key in PEM.
    #[error("cannot read the signing key: it does not consist of one \"-----BEGIN PRIVATE KEY-----\" block in PEM")]
    NotPem,
    /// The key is no Ed25519 key in PKCS#8.
    #[error("cannot read the signing key: the PEM block is not an Ed25519 key in PKCS#8 form")]
    NotEd25519,
}

/// An Ed25519 key (RFC 8032) that can sign metadata.
pub struct SigningKey {
    pair: Ed25519KeyPair,
    pkcs8: Vec<u8>,
    public: PublicKey,
}

impl SigningKey {
    /// Makes a new key from the system's random numbers.
    ///
    /// # Errors
    /// [`KeyError::Random`].
    pub fn generate() -> Result<Self, KeyError> {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| KeyError::Random)?;
        Self::from_pkcs8(pkcs8.as_ref())
    }

    /// Reads one `PRIVATE KEY` block (RFC 7468, RFC 8410). Text around it is ignored. Keys made by `openssl genpkey
    /// -algorithm ed25519` are read too.
    ///
    /// # Errors
    /// [`KeyError::NotPem`], [`KeyError::NotEd25519`]. Neither repeats anything of the text.
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        let (_, rest) = text.split_once(BEGIN).ok_or(KeyError::NotPem)?;
        let (body, rest) = rest.split_once(END).ok_or(KeyError::NotPem)?;
        if rest.contains(BEGIN) {
            return Err(KeyError::NotPem);
        }
        let body: String = body.split_ascii_whitespace().collect();
        let pkcs8 = STANDARD.decode(body).map_err(|_| KeyError::NotPem)?;
        Self::from_pkcs8(&pkcs8)
    }

    fn from_pkcs8(pkcs8: &[u8]) -> Result<Self, KeyError> {
        // "Maybe unchecked": a key without its public half, as OpenSSL writes it, is completed and not refused. One that
        // has it is checked.
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(pkcs8).map_err(|_| KeyError::NotEd25519)?;
        let public = pair.public_key().as_ref().try_into().map_err(|_| KeyError::NotEd25519)?;
        Ok(Self { pair, pkcs8: pkcs8.to_vec(), public: PublicKey::Ed25519(public) })
    }

    /// The key as PEM. Secret: the file that it goes to must be readable by its owner alone.
    pub fn to_pem(&self) -> String {
        let body = STANDARD.encode(&self.pkcs8);
        let mut text = format!("{BEGIN}\n");
        for (place, character) in body.chars().enumerate() {
            if place > 0 && place.is_multiple_of(64) {
                text.push('\n');
            }
            text.push(character);
        }
        text.push('\n');
        text.push_str(END);
        text.push('\n');
        text
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        self.public.clone()
    }

    /// The key's id in metadata.
    pub fn id(&self) -> Digest {
        self.public.id()
    }

    /// Signs `message`.
    pub(super) fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.pair.sign(message).as_ref().to_vec()
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("public", &self.public).finish_non_exhaustive()
    }
}

/// Reads a public key as [`PublicKey`] is displayed: `ed25519:` and 64 lower-case hexadecimal digits. `None` for any other
/// text, those of the kinds that are never made here among them.
pub fn read_public_key(text: &str) -> Option<PublicKey> {
    hex::decode_array(text.strip_prefix("ed25519:")?).map(PublicKey::Ed25519)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_survives_pem() {
        let key = SigningKey::generate().unwrap();
        let again = SigningKey::from_pem(&key.to_pem()).unwrap();
        assert_eq!(again.public(), key.public());
        assert_eq!(read_public_key(&key.public().to_string()), Some(key.public()));
        assert!(key.public().verifies(b"text", &again.sign(b"text")));
        assert!(!key.public().verifies(b"other", &again.sign(b"text")));
        assert!(key.to_pem().lines().all(|line| line.len() <= 64));
    }

    #[test]
    fn a_key_of_rfc_8410_without_its_public_half_is_read() {
        // RFC 8410 section 10.3, and its public key of section 10.1.
        let pem = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n-----END PRIVATE KEY-----\n";
        let public = "ed25519:19bf44096984cdfe8541bac167dc3b96c85086aa30b6b6cb0c5c38ad703166e1";
        assert_eq!(SigningKey::from_pem(pem).unwrap().public().to_string(), public);
    }

    #[test]
    fn other_texts_are_refused_and_never_repeated() {
        let pem = SigningKey::generate().unwrap().to_pem();
        for (bad, error) in [
            (String::new(), KeyError::NotPem),
            (pem.replace("PRIVATE", "PUBLIC"), KeyError::NotPem),
            (pem.replace("-----END", "-----"), KeyError::NotPem),
            (pem.repeat(2), KeyError::NotPem),
            (format!("{BEGIN}\n!!!!\n{END}\n"), KeyError::NotPem),
            (format!("{BEGIN}\n{END}\n"), KeyError::NotEd25519),
            (format!("{BEGIN}\nMC4CAQAw\n{END}\n"), KeyError::NotEd25519),
        ] {
            assert_eq!(SigningKey::from_pem(&bad).map(|_| ()), Err(error), "{bad}");
        }
        let shown = format!("{:?}", SigningKey::from_pem(&pem).unwrap());
        let secret = pem.lines().nth(1).unwrap();
        assert!(!shown.contains(secret));
    }
}
