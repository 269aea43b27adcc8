//! What people see of keys: always who can do what.

use orangery_trust::repository::Draft;
use serde_json::json;

use super::{carry, days};
use crate::cli::Outcome;
use crate::home::Home;
use crate::output::{self, Tone, Word};
use crate::owner::{KeysStatus, RoleStatus, draft_roles};

/// From here on the days that are left are a warning.
const DAYS_FEW: i64 = 60;

/// `keys status`
pub async fn status(home: &Home, is_json: bool) -> anyhow::Result<Outcome> {
    let client = carry::catch_up(home).await;
    let mut status = KeysStatus::read(home)?;
    if let Some(client) = client {
        status.online_expires_at = client.trust().await.ok().and_then(|trust| trust.online_expires_at);
    }
    let now = output::now();
    if is_json {
        let terms = [
            ("root", Some(status.root.expires_at)),
            ("targets", status.targets.as_ref().map(|term| term.expires_at)),
            ("online", status.online_expires_at),
        ];
        let delegated = status.delegated.iter().map(|(role, term)| (role.clone(), json!(days(term.expires_at, now))));
        let delegated: serde_json::Map<String, serde_json::Value> = delegated.collect();
        let days: serde_json::Map<String, serde_json::Value> =
            terms.into_iter().map(|(name, at)| (name.to_owned(), json!(at.map(|at| days(at, now))))).collect();
        let mut value = serde_json::to_value(&status)?;
        value["days_left"] = days.into();
        value["days_left"]["delegated"] = delegated.into();
        output::json(&value)?;
        return Ok(Outcome::Done);
    }
    output::line(roles(&status.roles))?;
    output::line(terms(&status, now))?;
    if let Some(staged) = &status.staged {
        let state = if staged.is_sent {
            "sent to the coordinator; `orangery keys publish` finishes it".to_owned()
        } else if staged.missing_by.is_empty() {
            "signed; `orangery keys publish` makes it hold".to_owned()
        } else {
            let missing = staged.missing_of_present.max(staged.missing_of_new);
            format!("waits for {missing} more of {}; `orangery keys sign`", staged.missing_by.join(", "))
        };
        output::line(format!("\nStaged: {} (root {}), {state}. After it:\n", staged.deed, staged.version))?;
        output::line(roles(&staged.roles))?;
    }
    Ok(Outcome::Done)
}

fn terms(status: &KeysStatus, now: u64) -> String {
    let row = |name: String, at: u64| {
        let left = days(at, now);
        let tone = if left < DAYS_FEW { Tone::Bad } else { Tone::Plain };
        vec![Word::plain(name), Word::plain(output::moment(at)), Word::new(format!("{left} days"), tone)]
    };
    let mut rows = vec![row(format!("root {}", status.root.version), status.root.expires_at)];
    rows.extend(status.targets.as_ref().map(|term| row(format!("targets {}", term.version), term.expires_at)));
    rows.extend(status.delegated.iter().map(|(role, term)| row(format!("{role} {}", term.version), term.expires_at)));
    rows.extend(status.online_expires_at.map(|at| row("snapshot, timestamp".to_owned(), at)));
    output::table(&["metadata", "valid until", "left"], &rows)
}

/// Who can do what, as a table.
fn roles(roles: &[RoleStatus]) -> String {
    let mut rows = Vec::new();
    for role in roles {
        for (place, key) in role.keys.iter().enumerate() {
            let first = |text: String| Word::plain(if place == 0 { text } else { String::new() });
            let name = key.name.clone().unwrap_or_default();
            let held = match &key.file {
                Some(file) => {
                    format!("here, {}: {}", kept(key.sealed), file.file_name().unwrap_or_default().to_string_lossy())
                }
                None => "not here".to_owned(),
            };
            rows.push(vec![
                first(role.may.clone()),
                first(format!("{} of {}", role.threshold, role.keys.len())),
                Word::plain(name),
                Word::plain(key.id.get(..12).unwrap_or(&key.id)),
                Word::plain(held),
            ]);
        }
    }
    output::table(&["who can", "takes", "key", "id", "where"], &rows)
}

/// How a key file is kept.
pub fn kept(is_sealed: bool) -> &'static str {
    if is_sealed { "with a passphrase" } else { "without a passphrase" }
}

/// Who could do what by a root that is not published.
pub fn draft(home: &Home, draft: &Draft) -> anyhow::Result<()> {
    output::line(format!("Root {}, once it is published:\n", draft.content().version))?;
    output::line(roles(&draft_roles(home, draft)))?;
    Ok(())
}

/// Who can do what now. Every command ends with it.
pub fn after(home: &Home) -> anyhow::Result<()> {
    output::line(format!("\n{}", roles(&KeysStatus::read(home)?.roles)))?;
    Ok(())
}

/// Where keys belong once more than one must sign.
pub fn advise_threshold(home: &Home, threshold: usize) -> anyhow::Result<()> {
    if threshold > 1 {
        output::line(format!(
            "\nEvery new root now takes {threshold} of these keys. They protect you only apart from each other: leave root.key here,\n\
             and move the others from {} to places that do not burn or get stolen together.",
            home.owner().display()
        ))?;
    }
    Ok(())
}
