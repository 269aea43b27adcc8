//! What travels between a node's agent, the coordinator and the operator: names, release manifests, MQTT messages and
//! topics, REST types. This crate does no IO and keeps no state.
//!
//! Every reader ignores fields that it does not know, and every text, list and number has a limit (see [`limits`]).

pub mod container;
pub mod ids;
pub mod limits;
pub mod manifest;
pub mod messages;
pub mod rest;
pub mod token;
pub mod topics;

pub use ids::{AppName, Digest, Generation, NodeId, ReleaseId, SocketName, UnixTime, UserName, Version};
pub use manifest::Manifest;
