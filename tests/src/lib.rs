//! The whole system as a test sees it: real processes, a real broker, real TLS, on loopback, in a directory that goes away.

pub mod exporter;
pub mod fleet;
pub mod house;
pub mod load;
pub mod mosquitto;
pub mod mqtt;
pub mod netns;
pub mod node;
pub mod process;
pub mod prometheus;
pub mod random;
pub mod site;
pub mod small_disk;
pub mod usage;
