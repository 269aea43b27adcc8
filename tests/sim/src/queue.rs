//! What is due, in the order of virtual time; at the same time, in the order in which it was put here.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// The queue. What waits stays where it is; only small numbers are sorted.
pub struct Queue<T> {
    order: BinaryHeap<Reverse<(u64, u64, usize)>>,
    places: Vec<Option<T>>,
    free: Vec<usize>,
    queued: u64,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { order: BinaryHeap::new(), places: Vec::new(), free: Vec::new(), queued: 0 }
    }
}

impl<T> Queue<T> {
    /// Something is due at a time.
    pub fn push(&mut self, at: u64, due: T) {
        let place = self.free.pop().unwrap_or_else(|| {
            self.places.push(None);
            self.places.len() - 1
        });
        self.places[place] = Some(due);
        self.queued += 1;
        self.order.push(Reverse((at, self.queued, place)));
    }

    /// What is due next, and when.
    pub fn pop(&mut self) -> Option<(u64, T)> {
        let Reverse((at, _, place)) = self.order.pop()?;
        self.free.push(place);
        Some((at, self.places.get_mut(place)?.take()?))
    }
}
