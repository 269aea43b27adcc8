//! Releases on the owner's machine: built from directories, kept in one file, signed, verified, published.
//!
//! A *bundle* is the file that carries a release from `orangery release build` to `push`: the manifest, the packs that it
//! names, and, once signed, the targets metadata that vouches for it.

pub mod archive;
pub mod build;
pub mod bundle;
pub mod hashing;
pub mod push;
pub mod recipe;
pub mod tree;
pub mod verify;
