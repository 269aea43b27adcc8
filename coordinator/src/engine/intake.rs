//! Messages of nodes. Their sender is certain, their content is not: whatever cannot be understood is counted, told and
//! dropped, and nothing in it reaches a terminal or a page as more than text.

use orangery_wire::limits::{APPS_MAX, LABELS_MAX, TEXT_BYTES_MAX, reason};
use orangery_wire::messages::{self, Event, FORMAT, Health, Online, Rejected, Reported};
use orangery_wire::{Generation, NodeId};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::store::OWN_EPOCH;

/// Largest generation, epoch-wise sequence or other count that is believed: every JSON reader can hold it (RFC 8259
/// section 6), and one more is still a number.
const COUNT_MAX: u64 = 1 << 53;

/// Longest boot id, agent version or platform; real ones have about 40 bytes.
const WORD_BYTES_MAX: usize = 256;

/// Reads a proof.
pub(super) fn reported(payload: &[u8], node: &NodeId) -> Result<Reported, Rejected> {
    let reported: Reported = read(payload)?;
    check_format(reported.format)?;
    check_node(&reported.node, node)?;
    if reported.apps.len() > APPS_MAX {
        return Err(rejected("too_many_apps", format!("{} apps; at most {APPS_MAX} are allowed", reported.apps.len())));
    }
    if reported.labels.len() > LABELS_MAX {
        return Err(rejected(
            "too_many_labels",
            format!("{} labels; at most {LABELS_MAX} are allowed", reported.labels.len()),
        ));
    }
    let generations = reported.apps.iter().map(|app| app.generation).chain([reported.generation]);
    check_counts(generations)?;
    check_signed(reported.sequence)?;
    let words = [&reported.boot_id, &reported.agent_version, &reported.platform];
    check_texts(words.into_iter().chain(&reported.board), WORD_BYTES_MAX)?;
    check_texts(reported.labels.iter().flat_map(|(name, value)| [name, value]), WORD_BYTES_MAX)?;
    check_texts(reported.apps.iter().filter_map(|app| Some(&app.refusal.as_ref()?.reason)), TEXT_BYTES_MAX)?;
    check_texts(reported.apps.iter().filter_map(|app| app.waits.as_ref()), TEXT_BYTES_MAX)?;
    Ok(reported)
}

/// Reads an event.
pub(super) fn event(payload: &[u8], node: &NodeId) -> Result<Event, Rejected> {
    let event: Event = read(payload)?;
    check_format(event.format)?;
    check_node(&event.node, node)?;
    if event.epoch == OWN_EPOCH {
        return Err(rejected("out_of_range", "epoch 0 is the coordinator's own".to_owned()));
    }
    if event.sequence == 0 {
        return Err(rejected("out_of_range", "events count from 1".to_owned()));
    }
    check_counts([event.sequence, event.previous.unwrap_or(0)])?;
    check_texts([&event.boot_id], WORD_BYTES_MAX)?;
    Ok(event)
}

/// Reads a health message.
pub(super) fn health(payload: &[u8]) -> Result<Health, Rejected> {
    let health: Health = read(payload)?;
    check_texts([&health.agent_version], WORD_BYTES_MAX)?;
    if health.apps.len() > APPS_MAX {
        return Err(rejected("too_many_apps", format!("{} apps; at most {APPS_MAX} are allowed", health.apps.len())));
    }
    Ok(health)
}

/// Reads whether a node is connected.
pub(super) fn online(payload: &[u8]) -> Result<Online, Rejected> {
    let online: Online = read(payload)?;
    check_texts([&online.boot_id], WORD_BYTES_MAX)?;
    Ok(online)
}

/// The newest generation that a proof names.
pub(super) fn newest_generation(reported: &Reported) -> Generation {
    reported.apps.iter().map(|app| app.generation).chain([reported.generation]).max().unwrap_or(0)
}

fn rejected(why: &'static str, text: String) -> Rejected {
    Rejected { why, reason: reason(text) }
}

fn check_format(format: u32) -> Result<(), Rejected> {
    if format == FORMAT { Ok(()) } else { Err(rejected("unknown_format", format!("format {format} is not {FORMAT}"))) }
}

fn check_node(named: &NodeId, sender: &NodeId) -> Result<(), Rejected> {
    if named == sender { Ok(()) } else { Err(rejected("wrong_node", format!("it says {named}, {sender} sent it"))) }
}

fn check_counts(counts: impl IntoIterator<Item = u64>) -> Result<(), Rejected> {
    match counts.into_iter().find(|count| *count > COUNT_MAX) {
        Some(count) => Err(rejected("out_of_range", format!("{count} is more than {COUNT_MAX}"))),
        None => Ok(()),
    }
}

/// A report's sequence counts starts in its upper half, so it may be larger than the other counts.
fn check_signed(sequence: u64) -> Result<(), Rejected> {
    if i64::try_from(sequence).is_ok() {
        Ok(())
    } else {
        Err(rejected("out_of_range", format!("{sequence} is too large")))
    }
}

fn check_texts<'a>(texts: impl IntoIterator<Item = &'a String>, bytes_max: usize) -> Result<(), Rejected> {
    match texts.into_iter().find(|text| text.len() > bytes_max) {
        Some(text) => {
            Err(rejected("too_long", format!("a text of {} bytes; at most {bytes_max} are allowed", text.len())))
        }
        None => Ok(()),
    }
}

/// Reads a message and makes every text in it printable. JSON can hide a control character in an escape only, so plain
/// ASCII without a backslash, which is nearly every message, needs no second look.
fn read<T: DeserializeOwned>(payload: &[u8]) -> Result<T, Rejected> {
    if payload.iter().all(|byte| byte.is_ascii() && *byte != b'\\') {
        return messages::read(payload);
    }
    let value: Value = messages::read(payload)?;
    serde_json::from_value(printable(value)).map_err(|error| rejected("not_json", error.to_string()))
}

fn printable(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(printable_text(text)),
        Value::Array(values) => values.into_iter().map(printable).collect(),
        Value::Object(map) => map.into_iter().map(|(key, value)| (printable_text(key), printable(value))).collect(),
        other => other,
    }
}

/// Line breaks and tabs become spaces. Other control characters and those that turn the direction of writing, which could
/// make a line look like another one, become U+FFFD.
fn printable_text(text: String) -> String {
    if !text.chars().any(|c| c.is_control() || turns(c)) {
        return text;
    }
    let shown = |c: char| match c {
        '\n' | '\r' | '\t' => ' ',
        c if c.is_control() || turns(c) => char::REPLACEMENT_CHARACTER,
        c => c,
    };
    text.chars().map(shown).collect()
}

fn turns(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
#[path = "intake/tests.rs"]
mod tests;
