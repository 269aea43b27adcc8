//! The coordinator of a fleet, and the operator's commands. ARCHITECTURE.md has the map.

pub mod broker;
pub mod ca;
pub mod config;
pub mod link;
pub mod nearest;
pub mod release;
pub mod tls;
pub mod engine;
pub mod sha256;
pub mod store;
pub mod artifacts;
pub mod durable;
pub mod repository;
pub mod client;
pub mod home;
pub mod output;
pub mod owner;
pub mod https;
pub mod api;
pub mod serve;
pub mod cli;
pub mod demo;
