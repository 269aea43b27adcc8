//! The state directory: key and certificate, trusted metadata, store, and the invariants.

use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use super::{Answer, Code, Findings, Node};
use crate::clock::utc;
use crate::control::{self, Reply, Request};
use crate::disk::RealDisk;
use crate::trusted::Trusted;

const DAY: u64 = 86_400;
/// Metadata is signed anew each day, so a week is late.
const TRUST_DAYS: u64 = 7;
/// Renewed a month before its end; half a month before it something is wrong.
const CERTIFICATE_DAYS: u64 = 15;
/// A directory that is wrong in more ways than this needs another kind of help.
const VIOLATIONS_SHOWN: usize = 10;

pub(super) fn identity(node: &Node, found: &mut Findings) {
    let identity = match &node.identity {
        // Told as "not joined".
        Ok(None) => return,
        Ok(Some(identity)) => identity,
        Err(trouble) if trouble.contains("ermission denied") => return found.add(Code::NotLooked, trouble),
        Err(trouble) => return found.add(Code::IdentityDamaged, trouble),
    };
    let Some(validity) = identity.certificate().validity() else { return };
    let (now, end) = (node.clock.now(), validity.not_after);
    let what = format!("the certificate of {} is good until {}", identity.node, utc(end));
    if now > end {
        found.add(Code::CertificateExpired, what.replace(" is good ", " was good "));
    } else if now.saturating_add(CERTIFICATE_DAYS * DAY) > end {
        found.add(Code::CertificateExpires, what);
    } else {
        found.ok(what);
    }
}

pub(super) fn trust(node: &Node, found: &mut Findings) {
    let directory = node.layout.trust();
    let standing = Trusted::load(Arc::new(RealDisk), directory.clone(), node.clock.clone()).standing();
    let report = standing.report(node.clock.now());
    if report.root == 0 {
        let names = match std::fs::read_dir(&directory) {
            Ok(names) => names.count(),
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                return found.add(Code::NotLooked, format!("{}: {error}", directory.display()));
            }
            Err(_) => 0,
        };
        match (names, node.joined()) {
            (0, None) => {}
            (0, Some(_)) => found.add(Code::NoTrustRoot, format!("{} is empty", directory.display())),
            (_, _) => {
                found.add(Code::TrustDamaged, format!("{} has files, and none of them is a root", directory.display()));
            }
        }
        return;
    }
    let until = standing.expires().map(utc).unwrap_or_default();
    let what = format!("root {}, targets {}, good until {until}", report.root, report.targets);
    let soon = standing.expires().is_some_and(|at| at <= node.clock.now().saturating_add(TRUST_DAYS * DAY));
    match (report.stale, soon) {
        (true, _) => found.add(Code::TrustExpired, what.replace("good until", "expired")),
        (false, true) => found.add(Code::TrustExpires, what),
        (false, false) => found.ok(what),
    }
}

pub(super) fn store(node: &Node, found: &mut Findings) {
    if let Answer::Status(_) = node.answer {
        match control::ask(&node.layout.socket(), &Request::History { count: 1 }) {
            Ok(Reply::History(_)) => found.ok("the agent reads its events"),
            Ok(Reply::Refused(reason)) => found.add(Code::StoreFailed, reason),
            Ok(_) | Err(_) => {}
        }
    }
    let names = std::fs::read_dir(node.layout.store()).into_iter().flatten().flatten().map(|entry| entry.path());
    for path in names.filter(|path| path.extension().is_some_and(|end| end == "damaged")) {
        found.add(Code::StoreSetAside, path.display().to_string());
    }
}

pub(super) fn state(node: &Node, found: &mut Findings) {
    let root = node.layout.root();
    let Ok(about) = std::fs::metadata(root) else { return };
    for directory in [root.to_owned(), node.layout.apps(), node.layout.trust()] {
        let open = std::fs::metadata(&directory).is_ok_and(|about| about.mode() & 0o022 != 0);
        if open {
            found.add(Code::StateOpen, format!("others may write in {}", directory.display()));
        }
    }
    let user = rustix::process::geteuid();
    if !user.is_root() && about.uid() != user.as_raw() {
        return found.add(Code::NotLooked, format!("{} belongs to another user", root.display()));
    }
    let violations = crate::check::check(&RealDisk, &node.layout);
    if violations.is_empty() {
        found.ok("every invariant holds");
    }
    for violation in violations.iter().take(VIOLATIONS_SHOWN) {
        found.add(Code::Invariant, violation.to_string());
    }
    if violations.len() > VIOLATIONS_SHOWN {
        found.add(Code::Invariant, format!("and {} more", violations.len() - VIOLATIONS_SHOWN));
    }
}
