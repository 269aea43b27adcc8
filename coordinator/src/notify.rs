//! Telling people and programs elsewhere what happens in the fleet: webhook, ntfy, Slack, Discord, e-mail (docs/adr/0018).
//!
//! The engine writes each [`Notice`] in the transaction of the deed that it tells of. Every target has a place in that one list
//! up to which it was told, and a task of its own that reads on from there, sends, and has the engine move the place after
//! the target has answered. So nothing is lost by a kill, the order is kept, and at worst one message is told twice.

mod address;
mod body;
mod deliver;
mod http;
mod mail;
mod message;
mod notice;
mod pace;
mod secret;
mod settings;
mod target;
mod template;

pub use deliver::deliver;
pub use message::{Message, Waiting, waiting};
pub use notice::{Kind, Notice, Severity, plain};
pub use secret::{Secret, Source};
pub use settings::{Mail, MailTls, Settings, TargetSettings, Way, Written, WrittenWatch, without_secrets};
pub use target::{Answer, Failure, NotifyError, Target, Targets};
pub use template::Template;

/// Most targets.
pub const TARGETS_MAX: usize = 32;
/// Most notices that are kept; the oldest go first.
pub const NOTICES_KEPT_MAX: u64 = 10_000;
/// A notice that could not be delivered for so many seconds is given up.
pub const GIVE_UP_SECS: u64 = 86_400;
