//! The cookie by which a browser shows its session, and what it must send beside it so that nobody else's page can use that.
//!
//! The cookie holds 256 random bits, the coordinator their SHA-256. `__Host-` makes browsers take it only over TLS, from this
//! host itself and for all of it; scripts cannot read it, and no other site's page makes a browser send it.

use axum::http::header::{COOKIE, HeaderMap};
use axum::http::{HeaderName, HeaderValue};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use orangery_wire::Digest;
use ring::hmac;

use crate::engine::SESSION_SECS;
use crate::sha256;

/// Its name.
pub const NAME: &str = "__Host-orangery-session";
/// What every request of a session that may change something must have.
pub const CSRF: HeaderName = HeaderName::from_static("x-orangery-csrf");
/// Characters of 256 bits.
const CHARACTERS: usize = 43;
/// What the session's secret signs to make the value of [`CSRF`].
const CSRF_PURPOSE: &[u8] = b"orangery csrf";

/// What a cookie of ours holds.
pub(super) struct Secret(String);

impl Secret {
    /// A new one.
    pub(super) fn new(secret: String) -> Self {
        Self(secret)
    }

    /// The one that came with a request. `None`: none did. Two of them are none: only one can be ours, and nobody knows which.
    pub(super) fn of(headers: &HeaderMap) -> Option<Result<Self, Forged>> {
        let pairs = headers.get_all(COOKIE).into_iter().filter_map(|value| value.to_str().ok());
        let mut ours = pairs
            .flat_map(|value| value.split(';'))
            .filter_map(|pair| pair.trim().split_once('='))
            .filter(|(name, _)| *name == NAME);
        let (_, secret) = ours.next()?;
        let is_ours = secret.len() == CHARACTERS && ours.next().is_none();
        Some(if is_ours { Ok(Self(secret.to_owned())) } else { Err(Forged) })
    }

    /// Its SHA-256: all that the coordinator keeps.
    pub(super) fn digest(&self) -> Digest {
        sha256::digest(self.0.as_bytes())
    }

    /// What [`CSRF`] must hold. It follows from the secret, and the secret not from it; so nothing has to be kept.
    pub(super) fn csrf(&self) -> String {
        URL_SAFE_NO_PAD.encode(hmac::sign(&self.key(), CSRF_PURPOSE))
    }

    /// Whether a request has it. The time that this takes tells nothing about it.
    pub(super) fn has_csrf(&self, headers: &HeaderMap) -> bool {
        let sent = headers.get(CSRF).and_then(|sent| URL_SAFE_NO_PAD.decode(sent).ok());
        sent.is_some_and(|sent| hmac::verify(&self.key(), CSRF_PURPOSE, &sent).is_ok())
    }

    fn key(&self) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, self.0.as_bytes())
    }

    /// Makes a browser keep it.
    pub(super) fn set(&self) -> HeaderValue {
        with_value(&self.0, SESSION_SECS)
    }
}

/// A cookie of our name that we have not made.
#[derive(Debug)]
pub(super) struct Forged;

/// Makes a browser forget it.
pub(super) fn unset() -> HeaderValue {
    with_value("", 0)
}

fn with_value(value: &str, secs: u64) -> HeaderValue {
    let text = format!("{NAME}={value}; Path=/; Max-Age={secs}; Secure; HttpOnly; SameSite=Strict");
    // base64url and what stands here are what a header may hold.
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret() -> String {
        "s".repeat(CHARACTERS)
    }

    fn with(cookies: &[&str]) -> HeaderMap {
        cookies.iter().map(|value| (COOKIE, HeaderValue::from_str(value).unwrap())).collect()
    }

    #[test]
    fn the_cookie_is_found_among_others_and_two_of_them_are_none() {
        let (one, two) = (format!("{NAME}={}", secret()), format!("{NAME}={}", "t".repeat(CHARACTERS)));
        let found = |cookies: &[&str]| Secret::of(&with(cookies)).map(|read| read.map(|secret| secret.0).ok());
        assert_eq!(found(&[]), None);
        assert_eq!(found(&["a=b; c"]), None);
        assert_eq!(found(&[&one]), Some(Some(secret())));
        assert_eq!(found(&[&format!("a=b; {one};c=d")]), Some(Some(secret())));
        assert_eq!(found(&["a=b", &one]), Some(Some(secret())));
        assert_eq!(found(&[&one, &two]), Some(None));
        assert_eq!(found(&[&format!("{one}; {one}")]), Some(None));
        assert_eq!(found(&[&format!("{NAME}=short")]), Some(None));
        assert_eq!(found(&[&format!("x{one}")]), None);
        assert_eq!(found(&[&one.to_lowercase()]), None, "names of cookies have a case");
    }

    #[test]
    fn the_csrf_value_belongs_to_one_session_and_gives_nothing_of_it_away() {
        let (mine, other) = (Secret::new(secret()), Secret::new("t".repeat(CHARACTERS)));
        let headers = |value: &str| HeaderMap::from_iter([(CSRF, HeaderValue::from_str(value).unwrap())]);
        assert!(mine.has_csrf(&headers(&mine.csrf())));
        for wrong in [other.csrf(), secret(), String::new(), mine.csrf()[1..].to_owned(), "!".to_owned()] {
            assert!(!mine.has_csrf(&headers(&wrong)), "{wrong}");
        }
        assert!(!mine.has_csrf(&HeaderMap::new()));
        assert_ne!(mine.csrf(), mine.0);
    }
}
