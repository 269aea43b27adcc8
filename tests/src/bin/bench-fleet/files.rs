//! Room for open files: a node has one connection here, and three descriptors in the coordinator.

use anyhow::bail;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What any of the programs has open besides connections.
const OTHERS: u64 = 512;
const EACH_NODE: u64 = 3;

/// Raises the limit for this process and those that it starts, so that so many nodes fit.
pub fn make_room_for(nodes: usize) -> anyhow::Result<()> {
    let needed = u64::try_from(nodes)?.saturating_mul(EACH_NODE).saturating_add(OTHERS);
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    // Only root may raise the upper one.
    let maximum = maximum.map(|maximum| maximum.max(needed));
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: Some(needed), maximum }) {
        bail!(
            "{nodes} nodes need {needed} open files, and the limit cannot be raised ({error}): try `ulimit -n {needed}` as root, or fewer nodes"
        );
    }
    Ok(())
}
