//! Where the engine does its transactions: at once, or on a thread of its own while the world goes on.
//!
//! When that thread runs decides nothing. The world is told of a transaction at a virtual time that is known when it begins,
//! and whoever asks the coordinator anything before then waits for it to be done.

use std::panic::resume_unwind;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{JoinHandle, spawn};

use orangery::engine::{Command, Core, Effects};
use orangery::store::StoreError;

/// The engine after a transaction, and what that came to.
pub type Done = (Core, Result<Effects, StoreError>);

/// The place.
#[derive(Default)]
pub struct Desk(Option<Thread>);

struct Thread {
    work: Sender<(Core, Vec<Command>)>,
    done: Receiver<Done>,
    handle: JoinHandle<()>,
}

impl Desk {
    /// A place with a thread of its own, or without.
    pub fn new(on_a_thread: bool) -> Self {
        Self(on_a_thread.then(Thread::new))
    }

    /// The engine does a transaction. Without a thread it is done on return; else [`Desk::take`] waits for it.
    pub fn put(&self, mut core: Core, commands: Vec<Command>) -> Option<Done> {
        let Some(thread) = &self.0 else {
            let effects = core.apply(commands);
            return Some((core, effects));
        };
        // A thread that is gone has panicked, which `take` tells.
        let _ = thread.work.send((core, commands));
        None
    }

    /// Waits for what was put there last.
    pub fn take(&mut self) -> Done {
        match self.0.as_ref().map(|thread| thread.done.recv()) {
            Some(Ok(done)) => done,
            _ => match self.0.take().map(|thread| thread.handle.join()) {
                Some(Err(panic)) => resume_unwind(panic),
                _ => unreachable!("nothing was put there"),
            },
        }
    }
}

impl Thread {
    fn new() -> Self {
        let (work, orders) = channel::<(Core, Vec<Command>)>();
        let (results, done) = channel();
        let handle = spawn(move || {
            for (mut core, commands) in orders {
                let effects = core.apply(commands);
                if results.send((core, effects)).is_err() {
                    return;
                }
            }
        });
        Self { work, done, handle }
    }
}
