//! Every record that was met, once, and what each event makes of it: the machine is asked each question a single time.

use std::collections::HashMap;

use crate::machine::{Input, Look, Machine};

/// A record's place among those met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RecordId(u32);

/// All records met.
pub struct Records<M: Machine> {
    met: Vec<(M::Record, Look)>,
    places: HashMap<M::Record, RecordId>,
    next: HashMap<(RecordId, Input), RecordId>,
}

impl<M: Machine> Records<M> {
    pub fn new() -> Self {
        Self { met: Vec::new(), places: HashMap::new(), next: HashMap::new() }
    }

    pub fn intern(&mut self, record: M::Record) -> RecordId {
        if let Some(id) = self.places.get(&record) {
            return *id;
        }
        let id = RecordId(u32::try_from(self.met.len()).expect("few records are met"));
        self.met.push((record.clone(), M::look(&record)));
        self.places.insert(record, id);
        id
    }

    pub fn look(&self, id: RecordId) -> Look {
        self.met[id.0 as usize].1
    }

    pub fn record(&self, id: RecordId) -> &M::Record {
        &self.met[id.0 as usize].0
    }

    pub fn apply(&mut self, id: RecordId, input: Input) -> RecordId {
        if let Some(next) = self.next.get(&(id, input)) {
            return *next;
        }
        let record = M::apply(self.record(id), input);
        let next = self.intern(record);
        self.next.insert((id, input), next);
        next
    }

    /// How many records were met.
    pub fn count(&self) -> usize {
        self.met.len()
    }
}
