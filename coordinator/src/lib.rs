//! The coordinator of a fleet, and the operator's commands. ARCHITECTURE.md has the map.

pub mod ca;
pub mod config;
pub mod link;
pub mod nearest;
pub mod release;
pub mod tls;
