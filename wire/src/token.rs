//! The invite token: one line of text that lets one board (or a few) enrol.
//!
//! It names the coordinator, pins its certificate authority and the owner's first trust root by fingerprint, and carries a
//! secret. So a coordinator that was broken into cannot hand a new node a trust root of its own.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::ids::Digest;

const MARK: &str = "orangery1.";
const TEXT_BYTES_MAX: usize = 2_048;

/// What an invite token says. Its text form is `orangery1.` and base64url of this as JSON.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// The coordinator's address, such as `https://192.168.1.10:8443`.
    pub url: String,
    /// SHA-256 of the coordinator's CA certificate (DER).
    pub ca: Digest,
    /// SHA-256 of the owner's first root metadata file (`1.root.json`).
    pub root: Digest,
    /// The one-time secret, 32 random bytes as base64url. The coordinator keeps its hash alone.
    pub secret: String,
}

/// Why a text is not a token. Never contains the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidToken {
    /// It does not begin with the mark, or is too long.
    #[error(
        "this is not an invite token: it must begin with \"orangery1.\"; copy the whole line that `orangery node invite` printed"
    )]
    NotAToken,
    /// The rest is damaged.
    #[error("the invite token is damaged or cut short; copy the whole line that `orangery node invite` printed")]
    Damaged,
}

impl std::str::FromStr for Token {
    type Err = InvalidToken;
    fn from_str(text: &str) -> Result<Self, InvalidToken> {
        let text = text.trim();
        if text.len() > TEXT_BYTES_MAX {
            return Err(InvalidToken::NotAToken);
        }
        let encoded = text.strip_prefix(MARK).ok_or(InvalidToken::NotAToken)?;
        let json = URL_SAFE_NO_PAD.decode(encoded).map_err(|_| InvalidToken::Damaged)?;
        serde_json::from_slice(&json).map_err(|_| InvalidToken::Damaged)
    }
}

impl Token {
    /// The text form.
    pub fn to_text(&self) -> String {
        let json = serde_json::to_vec(self).unwrap_or_default();
        format!("{MARK}{}", URL_SAFE_NO_PAD.encode(json))
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Token").field("url", &self.url).field("ca", &self.ca).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_survives_its_text_form_and_a_cut_one_is_refused() {
        let token = Token {
            url: "https://127.0.0.1:8443".into(),
            ca: Digest([1; 32]),
            root: Digest([2; 32]),
            secret: "s".repeat(43),
        };
        let text = token.to_text();
        assert_eq!(text.parse(), Ok(token.clone()));
        assert_eq!(text[..text.len() - 9].parse::<Token>(), Err(InvalidToken::Damaged));
        assert_eq!("hello".parse::<Token>(), Err(InvalidToken::NotAToken));
        assert!(!format!("{token:?}").contains("sss"));
    }
}
