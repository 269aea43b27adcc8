//! The deployment machine as the explorer sees it: releases are small numbers, and the record is opaque.
//!
//! `machine!` makes a [`Machine`] of the `deployment` that is in scope: the shipped module, or one with a seeded mutation.

use std::fmt::Debug;
use std::hash::Hash;

use orangery_wire::messages::{Phase, RefusalCode};
use orangery_wire::{Digest, Generation, ReleaseId};

/// A release of the model.
pub type Release = u8;

/// What happens to a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Input {
    Started,
    Desired { generation: u8, release: Option<Release> },
    Fetched,
    FetchFailed,
    FetchRefused,
    Ran,
    RunFailed,
    Healthy,
    Unhealthy,
    Disconnected,
    RolledBack { release: Release },
    Brought { release: Release },
}

impl Input {
    /// Every end of an effect.
    pub const OUTCOMES: [Self; 8] = [
        Self::Fetched,
        Self::FetchFailed,
        Self::FetchRefused,
        Self::Ran,
        Self::RunFailed,
        Self::Healthy,
        Self::Unhealthy,
        Self::Disconnected,
    ];
}

/// What a machine asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ask {
    Wait,
    Fetch(Release),
    Run { release: Option<Release>, trial: bool },
    Probe(Release),
}

/// What can be seen of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    pub generation: u8,
    pub desired: Option<Release>,
    pub current: Option<Release>,
    pub refused: Option<(Release, RefusalCode)>,
    pub phase: Phase,
    /// The release on trial and the generation that wanted it.
    pub trial: Option<(Release, u8)>,
    /// What the phase is about.
    pub subject: Option<Release>,
    pub ask: Ask,
}

impl Look {
    pub fn refuses(&self, release: Release) -> bool {
        self.refused.is_some_and(|(refused, _)| refused == release)
    }

    /// Nothing is left to do: what is wanted is proven, or was refused.
    pub fn is_done(&self) -> bool {
        self.current == self.desired || self.desired.is_some_and(|desired| self.refuses(desired))
    }
}

/// A deployment machine.
pub trait Machine {
    type Record: Clone + Eq + Hash + Debug;
    /// At rest on a proven release, or on none.
    fn settled(current: Option<Release>) -> Self::Record;
    /// The record after an event.
    fn apply(record: &Self::Record, input: Input) -> Self::Record;
    /// What can be seen of it.
    fn look(record: &Self::Record) -> Look;
}

/// Attempts are counted without end, and nothing depends on the count but pauses: the model counts to this.
pub const ATTEMPTS_MAX: u32 = 2;

/// A release's id, for its number.
pub fn id(release: Release) -> ReleaseId {
    ReleaseId(Digest([release; 32]))
}

/// A release's number, for its id.
pub fn number(id: ReleaseId) -> Release {
    id.0.0[0]
}

/// A generation of the model.
pub fn generation(generation: Generation) -> u8 {
    u8::try_from(generation).expect("the model has a few generations")
}

/// Implements [`Machine`] for the module `deployment` that is in scope, as `Core`.
macro_rules! machine {
    () => {
        pub struct Core;

        impl $crate::machine::Machine for Core {
            type Record = deployment::Record;

            fn settled(current: Option<$crate::machine::Release>) -> Self::Record {
                let current = current.map($crate::machine::id);
                deployment::Record { desired: current, current, ..deployment::Record::default() }
            }

            fn apply(record: &Self::Record, input: $crate::machine::Input) -> Self::Record {
                use deployment::{Event, Phase};
                use $crate::machine::{Input, id};
                let text = String::new;
                let mut next = record.apply(match input {
                    Input::Started => Event::Started,
                    Input::Desired { generation, release } => {
                        Event::Desired { generation: generation.into(), release: release.map(id) }
                    }
                    Input::Fetched => Event::Fetched,
                    Input::FetchFailed => Event::FetchFailed { refusal: None },
                    Input::FetchRefused => {
                        let code = ::orangery_wire::messages::RefusalCode::Unverified;
                        Event::FetchFailed { refusal: Some(deployment::Reason { code, text: text() }) }
                    }
                    Input::Ran => Event::Ran,
                    Input::RunFailed => Event::RunFailed { reason: text() },
                    Input::Healthy => Event::Healthy,
                    Input::Unhealthy => Event::Unhealthy { reason: text() },
                    Input::Disconnected => Event::Disconnected { reason: text() },
                    Input::RolledBack { release } => Event::RolledBack { release: id(release) },
                    Input::Brought { release } => Event::Brought { release: id(release) },
                });
                if let Phase::Fetching { attempt, .. } | Phase::Restoring { attempt } = &mut next.phase {
                    *attempt = (*attempt).min($crate::machine::ATTEMPTS_MAX);
                }
                next
            }

            fn look(record: &Self::Record) -> $crate::machine::Look {
                use deployment::{Effect, Phase};
                use $crate::machine::{Ask, generation, number};
                let trial = match &record.phase {
                    Phase::Activating(trial) | Phase::Probing(trial) => {
                        Some((number(trial.release), generation(trial.generation)))
                    }
                    Phase::Settled | Phase::Fetching { .. } | Phase::Restoring { .. } => None,
                };
                $crate::machine::Look {
                    generation: generation(record.generation),
                    desired: record.desired.map(number),
                    current: record.current.map(number),
                    refused: record.refused.as_ref().map(|refusal| (number(refusal.release), refusal.code)),
                    phase: record.phase_name(),
                    trial,
                    subject: record.subject().map(number),
                    ask: match record.effect() {
                        Effect::Wait => Ask::Wait,
                        Effect::Fetch { release, .. } => Ask::Fetch(number(release)),
                        Effect::Run { release, trial, .. } => Ask::Run { release: release.map(number), trial },
                        Effect::Probe { release } => Ask::Probe(number(release)),
                    },
                }
            }
        }
    };
}

pub(crate) use machine;
