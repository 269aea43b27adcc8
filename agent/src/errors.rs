//! How an error is told: once, with all its causes.

use orangery_wire::messages::RefusalCode;

/// `error: cause: cause of the cause`, leaving out what a message already says.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}

/// The code to refuse a release with when the disk did not do as asked: full, or broken.
pub fn disk_code(error: &std::io::Error) -> RefusalCode {
    if is_full(error) { RefusalCode::NoSpace } else { RefusalCode::DiskFailed }
}

/// Whether the disk has no room, for anybody or for this user.
pub fn is_full(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
}
