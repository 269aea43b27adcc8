//! What the guard and the routes by which somebody comes in remember while the coordinator runs.

use super::failures::Failures;
use super::once::Once;
use super::origin::Origins;
use super::passwords::Passwords;
use super::unheard::Unheard;

/// Who knocks, how often, and from which pages they may.
#[derive(Debug)]
pub struct Entrance {
    /// Where browsers reach this coordinator.
    pub(super) origins: Origins,
    /// Wrong invite secrets.
    pub(super) invites: Failures,
    /// Wrong tokens.
    pub(super) tokens: Failures,
    /// Passwords that are being checked, and wrong ones.
    pub(super) passwords: Passwords,
    /// What may still be written down of what is refused.
    pub(super) unheard: Unheard,
    /// What was answered to requests that are done once.
    pub(super) once: Once,
}

impl Entrance {
    /// Of a coordinator that browsers reach at these addresses: `https://HOST` or `https://HOST:PORT`.
    pub fn new<'a>(urls: impl IntoIterator<Item = &'a str>) -> Self {
        Self {
            origins: Origins::new(urls),
            invites: Failures::default(),
            tokens: Failures::default(),
            passwords: Passwords::default(),
            unheard: Unheard::default(),
            once: Once::default(),
        }
    }
}
