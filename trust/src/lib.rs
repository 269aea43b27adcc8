//! The Update Framework 1.0 (<https://theupdateframework.github.io/specification/v1.0.34/>): the client's rules as a
//! pure core, and the repository side that builds and signs. No clock, file, socket or task is named here: bytes and the
//! time come in as arguments, and what must be written goes out as values.
//!
//! Section numbers in comments ("TUF 5.3") are those of the specification's "Detailed client workflow".
//!
//! - [`client`]: what a node does with metadata that it does not trust yet.
//! - [`repository`]: what the owner and the coordinator do: keys, root, targets, snapshot, timestamp.
//! - [`metadata`]: the four roles as types; the bytes are always kept as they were served.
//! - [`canonical`]: the form of JSON that is signed.

pub mod canonical;
pub mod client;
mod hash;
mod hex;
mod json;
pub mod key;
pub mod limits;
pub mod metadata;
pub mod refusal;
pub mod release;
pub mod repository;
pub mod time;

pub use client::{Found, Keep, Refresh, Request, Search, Stored, TrustedSet, Versions, role_file};
pub use key::PublicKey;
pub use metadata::{Role, Target};
pub use refusal::Refusal;
pub use release::Release;
