//! Passwords of users: which are good enough, and what is kept of them.
//!
//! A password is never written anywhere, into no log and no error. What is kept is the text form (PHC string) of Argon2id (RFC
//! 9106) with a salt of its own. Working that out takes time and memory on purpose: call it where that is allowed.

use std::fmt;
use std::ops::RangeInclusive;

use argon2::password_hash::{self, PasswordHasher as _, PasswordVerifier as _, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};
use orangery_wire::UserName;
use ring::rand::{SecureRandom as _, SystemRandom};

mod common;

/// Characters that a password may have. The most that is said by NIST SP 800-63B to be worth taking is 64.
pub const CHARACTERS: RangeInclusive<usize> = 12..=128;
/// Characters that must be left of a password when the user's name is taken out of it.
const BESIDE_NAME_MIN: usize = 8;
/// A name that is shorter is in many words by chance.
const NAME_MIN: usize = 4;

/// What Argon2id may cost: the least that OWASP's Password Storage Cheat Sheet (2025) names, 19 MiB and two passes.
const MEMORY_KIB: u32 = 19 * 1_024;
const PASSES: u32 = 2;
const LANES: u32 = 1;
const SALT_BYTES: usize = 16;

/// What nobody's password matches, at the cost of one that somebody has.
const NOBODYS: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$d2hhdCBub2JvZHkgaGFzIQ$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// Why a password is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// Too short or too long.
    #[error("a password has from {} to {} characters", CHARACTERS.start(), CHARACTERS.end())]
    Length,
    /// It cannot be typed everywhere.
    #[error("a password has no control characters, such as a tab or a line break")]
    Control,
    /// It says little beside the name.
    #[error("the password is not much more than the user's name")]
    Name,
    /// It is among the first that are tried.
    #[error(
        "the password is one of the first that somebody would try: a common word, a row of keys, a repetition, or digits alone"
    )]
    Common,
}

/// A password, as somebody has given it.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(..)")
    }
}

impl Password {
    /// A new password of a user, if it is good enough.
    ///
    /// # Errors
    /// [`Unfit`]
    pub fn choose(text: String, user: &UserName) -> Result<Self, Unfit> {
        if !CHARACTERS.contains(&text.chars().count()) {
            return Err(Unfit::Length);
        }
        if text.chars().any(char::is_control) {
            return Err(Unfit::Control);
        }
        let lower = text.to_lowercase();
        if user.as_str().len() >= NAME_MIN
            && lower.contains(user.as_str())
            && lower.replace(user.as_str(), "").chars().count() < BESIDE_NAME_MIN
        {
            return Err(Unfit::Name);
        }
        if common::is_common(&lower) {
            return Err(Unfit::Common);
        }
        Ok(Self(text))
    }

    /// A password that is shown to sign in. `None`: it is too long to be anybody's.
    pub fn shown(text: String) -> Option<Self> {
        (text.chars().count() <= *CHARACTERS.end()).then_some(Self(text))
    }

    /// One that nobody has.
    pub fn none() -> Self {
        Self(String::new())
    }
}

/// What is kept of a password.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(String);

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(..)")
    }
}

/// The system gave no random numbers, or no memory.
#[derive(Debug, thiserror::Error)]
#[error("cannot work out what is kept of a password: {0}")]
pub struct HashError(String);

impl PasswordHash {
    /// Works it out, with a new salt: tens of milliseconds and 19 MiB.
    ///
    /// # Errors
    /// [`HashError`]
    pub fn of(password: &Password) -> Result<Self, HashError> {
        let failed = |error: password_hash::Error| HashError(error.to_string());
        let mut salt = [0; SALT_BYTES];
        SystemRandom::new().fill(&mut salt).map_err(|_| HashError("no random numbers".to_owned()))?;
        let salt = SaltString::encode_b64(&salt).map_err(failed)?;
        let params = Params::new(MEMORY_KIB, PASSES, LANES, None).map_err(|error| HashError(error.to_string()))?;
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        Ok(Self(argon2.hash_password(password.0.as_bytes(), &salt).map_err(failed)?.to_string()))
    }

    /// What was kept.
    pub fn of_text(text: String) -> Self {
        Self(text)
    }

    /// What no password matches, and costs as much as any.
    pub fn nobodys() -> Self {
        Self(NOBODYS.to_owned())
    }

    /// As it is kept.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is kept of this password: as long and as much memory as the text says. A text that cannot be read matches
    /// nothing.
    pub fn matches(&self, password: &Password) -> bool {
        let Ok(kept) = password_hash::PasswordHash::new(&self.0) else {
            tracing::error!("what is kept of a password cannot be read");
            return false;
        };
        Argon2::default().verify_password(password.0.as_bytes(), &kept).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kim() -> UserName {
        "kimberly".parse().unwrap()
    }

    fn check(text: &str, expected: Result<(), Unfit>) {
        assert_eq!(Password::choose(text.to_owned(), &kim()).map(drop), expected, "{text:?}");
    }

    #[test]
    fn a_password_is_long_enough_not_too_long_and_not_one_that_is_tried_first() {
        check("a quiet tram", Ok(()));
        check("kJ8#vbQ2!mzT", Ok(()));
        check("a quiet tra", Err(Unfit::Length));
        check(&"a quiet tram, ".repeat(9), Ok(()));
        check(&"a quiet tram, ".repeat(10), Err(Unfit::Length));
        check("пять зелёных трамваев", Ok(()));
        check("a quiet\ttram", Err(Unfit::Control));
        check("Kimberly2026", Err(Unfit::Name));
        check("kimberlykimberly", Err(Unfit::Name));
        check("kimberly has a quiet tram", Ok(()));
        check("password1234", Err(Unfit::Common));
    }

    #[test]
    fn a_hash_matches_its_password_alone_and_no_two_are_the_same() {
        let password = Password::choose("a quiet tram".to_owned(), &kim()).unwrap();
        let other = Password::choose("a quiet tran".to_owned(), &kim()).unwrap();
        let (one, two) = (PasswordHash::of(&password).unwrap(), PasswordHash::of(&password).unwrap());
        assert!(one.as_str().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{}", one.as_str());
        assert_ne!(one, two);
        assert!(one.matches(&password) && two.matches(&password) && !one.matches(&other));
        assert!(PasswordHash::of_text(one.as_str().to_owned()).matches(&password));
        for broken in ["", "$argon2id$", "plain", &one.as_str().replace("argon2id", "argon2x")] {
            assert!(!PasswordHash::of_text(broken.to_owned()).matches(&password), "{broken}");
        }
        assert!(!format!("{password:?} {one:?}").contains(one.as_str()));
    }

    /// Whoever measures must not learn whether a user is there: it is the cost that counts, and the text has that.
    #[test]
    fn nobodys_hash_costs_what_a_new_one_costs_and_matches_nothing() {
        let password = Password::choose("a quiet tram".to_owned(), &kim()).unwrap();
        let (real, nobodys) = (PasswordHash::of(&password).unwrap(), PasswordHash::nobodys());
        let cost = |hash: &PasswordHash| hash.as_str().split('$').take(4).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(cost(&real), cost(&nobodys));
        let lengths = |hash: &PasswordHash| hash.as_str().split('$').map(str::len).collect::<Vec<_>>();
        assert_eq!(lengths(&real), lengths(&nobodys));
        assert!(password_hash::PasswordHash::new(nobodys.as_str()).is_ok(), "it can be read");
        assert!(!nobodys.matches(&password));
    }
}
