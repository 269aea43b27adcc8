//! The coordinator of a fleet, and the operator's commands. ARCHITECTURE.md has the map.

pub mod api;
pub mod artifacts;
pub mod broker;
pub mod ca;
pub mod cli;
pub mod client;
pub mod config;
pub mod copies;
pub mod demo;
pub mod durable;
pub mod engine;
pub mod home;
pub mod https;
pub mod image;
pub mod link;
pub mod metrics;
pub mod nearest;
pub mod output;
pub mod owner;
pub mod release;
pub mod repository;
pub mod rollout;
pub mod serve;
pub mod sha256;
pub mod store;
pub mod tls;
