//! Targets of notifications.

use super::{Facts, Page, whole};

/// How each target stands. Its counts are kept in the database, and go on over a restart.
pub(super) fn tell(page: &Page, facts: &Facts) -> prometheus::Result<()> {
    let sent = "Messages that a target of notifications took.";
    let sent = page.counters("orangery_notify_sent_total", sent, &["target"])?;
    let failed = "Attempts to tell a target of notifications that failed.";
    let failed = page.counters("orangery_notify_failed_total", failed, &["target"])?;
    let given_up = "Notices that a target will never be told: it took none for a day, or not this one.";
    let given_up = page.counters("orangery_notify_given_up_total", given_up, &["target"])?;
    let waiting = page.whole("orangery_notify_waiting", "Notices that a target was not told yet.", &["target"])?;
    for target in &facts.notify {
        let name = [target.name.as_str()];
        sent.with_label_values(&name).inc_by(target.sent);
        failed.with_label_values(&name).inc_by(target.failed);
        given_up.with_label_values(&name).inc_by(target.given_up);
        waiting.with_label_values(&name).set(whole(target.waiting));
    }
    Ok(())
}
