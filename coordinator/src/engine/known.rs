//! What the engine remembers of nodes so that their messages ask the database less. It follows the database: what a batch or
//! a part of it has changed here is undone with it.

use std::collections::HashMap;

use orangery_wire::NodeId;

use crate::store::ReportMark;

/// The nodes in the database.
#[derive(Debug)]
pub(super) struct Known {
    nodes: HashMap<NodeId, Remembered>,
    /// Changes since the batch began, each with what was there before: `None` if nothing was.
    changes: Vec<(NodeId, Option<Remembered>)>,
}

/// What is remembered of one.
#[derive(Debug, Default)]
struct Remembered {
    /// The mark of its newest proof, if one has come since the start.
    mark: Option<ReportMark>,
}

impl Known {
    /// These are there; what they have reported is not known here yet.
    pub(super) fn new(nodes: Vec<NodeId>) -> Self {
        Self { nodes: nodes.into_iter().map(|node| (node, Remembered::default())).collect(), changes: Vec::new() }
    }

    /// A batch begins.
    pub(super) fn begin(&mut self) {
        self.changes.clear();
    }

    /// A moment in the batch.
    pub(super) fn moment(&self) -> usize {
        self.changes.len()
    }

    /// Everything since that moment has not happened.
    pub(super) fn undo(&mut self, moment: usize) {
        for (node, before) in self.changes.drain(moment..).rev() {
            match before {
                Some(remembered) => drop(self.nodes.insert(node, remembered)),
                None => drop(self.nodes.remove(&node)),
            }
        }
    }

    /// Whether a node is in the database.
    pub(super) fn has(&self, node: &NodeId) -> bool {
        self.nodes.contains_key(node)
    }

    /// It is from now on.
    pub(super) fn add(&mut self, node: &NodeId) {
        if !self.has(node) {
            self.set(node, None);
        }
    }

    /// The mark of a node's newest proof, if one has come since the start.
    pub(super) fn mark(&self, node: &NodeId) -> Option<&ReportMark> {
        self.nodes.get(node)?.mark.as_ref()
    }

    /// The mark of its newest proof from now on, or that it is not known.
    pub(super) fn set(&mut self, node: &NodeId, mark: Option<ReportMark>) {
        let before = self.nodes.insert(node.clone(), Remembered { mark });
        self.changes.push((node.clone(), before));
    }
}
