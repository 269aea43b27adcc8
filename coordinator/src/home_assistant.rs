//! Nodes in Home Assistant, over the house's own MQTT broker (docs/adr/0019): each node is a device there, with an `update` entity
//! for each of its apps, whether it is connected, whether somebody should look at it, and buttons that hold and release it.
//!
//! What is published follows from what the database and [`crate::engine::Live`] say, and is published anew whenever the broker or
//! Home Assistant may have lost it. What comes back are commands; they are done as a user of Orangery's, by the road that
//! commands of REST take. Nothing else is taken from the house: names count only if they are of nodes and apps that are known.

mod bridge;
mod command;
mod connection;
mod offer;
mod payload;
mod picture;
mod ration;
mod settings;
mod topics;

pub use bridge::{Bridge, Parts};
pub use settings::{HomeAssistantError, Settings, Written};

#[cfg(test)]
mod tests;
