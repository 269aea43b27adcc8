//! The agent of one node.
//!
//! [`deployment`] decides; everything else does. Read it first, then `driver`, which feeds it. ARCHITECTURE.md has the map.

pub mod backoff;
pub mod check;
pub mod cli;
pub mod clock;
pub mod config;
pub mod control;
pub mod deployment;
pub mod disk;
pub mod doctor;
pub mod driver;
pub mod errors;
pub mod evidence;
pub mod fetch;
pub mod first_boot;
pub mod health;
pub mod identity;
pub mod install;
pub mod launch;
pub mod layout;
pub mod link;
pub mod notify;
pub mod outbox;
pub mod preload;
pub mod probe;
pub mod record;
pub mod reserve;
pub mod road;
pub mod run;
pub mod runner;
pub mod store;
pub mod tls;
pub mod trusted;
pub mod unpack;
pub mod vitals;
