//! The search for one target through the roles that targets are delegated to (TUF 5.6.7), as a machine that is asked what
//! it needs and given it.
//!
//! Nothing is remembered of a delegated role between two searches but its bytes, which the caller keeps. They are verified
//! on every use, against whoever delegates to the role in this very search: one role may be delegated to by two others, with
//! different keys, and what is right on one way is worth nothing on the other.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use orangery_wire::{AppName, Digest, UnixTime, Version};

use super::refresh::Keep;
use super::{Request, TrustedSet};
use crate::hash::sha256;
use crate::limits::{DELEGATED_BYTES_MAX, ROLES_PER_SEARCH_MAX, TARGET_PATH_BYTES_MAX};
use crate::metadata::{Delegation, Envelope, Metafile, Role, Target, Targets};
use crate::refusal::Refusal;
use crate::release;

/// A target, and who answers for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its path.
    pub path: String,
    /// What is signed of it.
    pub target: Target,
    /// The delegated role that lists it; `None` for the top-level targets.
    pub role: Option<String>,
    /// Where it is served below `/targets/`, with its hash before the name if the root says so (TUF 5.7.3). What it is made
    /// of may need quoting in a URL.
    pub file: String,
}

/// The search for one target in a trusted set, at one fixed time: pre-order, depth first, in the order of appearance.
///
/// ```no_run
/// # use orangery_trust::{Found, Keep, Refusal, Search, TrustedSet};
/// # fn on_disk(role: &str) -> Option<Vec<u8>> { None }
/// # fn fetch(file: &str, length_max: u64) -> Option<Vec<u8>> { None }
/// # fn store(keep: &Keep) {}
/// # fn find(set: &TrustedSet, path: &str, now: u64) -> Result<Found, Refusal> {
/// let mut search = Search::begin(set, path, now)?;
/// while let Some(request) = search.next() {
///     let stored = request.delegated.as_deref().and_then(on_disk);
///     if stored.is_some_and(|bytes| search.try_stored(&bytes)) {
///         continue;
///     }
///     let bytes = fetch(&request.file, request.length_max); // below /metadata/; None if it is not there (404)
///     store(&search.supply(bytes.as_deref())?);
/// }
/// search.finish()
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Search<'a> {
    set: &'a TrustedSet,
    path: String,
    digest: Digest,
    now: UnixTime,
    /// Roles still to be asked, the next one last.
    ahead: Vec<Delegation>,
    /// Names of roles that were asked, the top included.
    visited: BTreeSet<String>,
    outcome: Option<Result<Found, Refusal>>,
    /// The app whose floors are looked for on the way.
    app: Option<AppName>,
    floor: Option<Version>,
}

impl<'a> Search<'a> {
    /// Begins the search for the target at `path`, valid at `now`, with the top-level targets of `set`.
    ///
    /// # Errors
    /// As [`TrustedSet::check`]; [`Refusal::UnknownTarget`] for a path longer than [`TARGET_PATH_BYTES_MAX`].
    pub fn begin(set: &'a TrustedSet, path: &str, now: UnixTime) -> Result<Self, Refusal> {
        Self::begin_for(set, path, None, now)
    }

    pub(crate) fn begin_for(
        set: &'a TrustedSet,
        path: &str,
        app: Option<AppName>,
        now: UnixTime,
    ) -> Result<Self, Refusal> {
        let top = set.chain(now)?;
        if path.len() > TARGET_PATH_BYTES_MAX {
            let path = path.chars().take(TARGET_PATH_BYTES_MAX / 8).collect();
            return Err(Refusal::UnknownTarget { path, delegated: false });
        }
        let mut search = Self {
            set,
            path: path.to_owned(),
            digest: sha256(path.as_bytes()),
            now,
            ahead: Vec::new(),
            visited: BTreeSet::from([Role::Targets.as_str().to_owned()]),
            outcome: None,
            app,
            floor: None,
        };
        if top.revoked.contains(path) {
            // What the owner has taken back no role of theirs brings again.
            search.outcome = Some(Err(Refusal::UnknownTarget { path: path.to_owned(), delegated: false }));
        } else {
            search.visit(None, top);
        }
        Ok(search)
    }

    /// The metadata that is needed next; `None` when the search is over, well or not. Asking again gives the same answer.
    pub fn next(&self) -> Option<Request> {
        let (delegation, listed) = self.current()?;
        let file = role_file(&delegation.name);
        let consistent = self.set.root.content.consistent_snapshot;
        Some(Request {
            role: Role::Targets,
            delegated: Some(delegation.name.clone()),
            // 5.6.1
            file: if consistent { format!("{}.{file}", listed.version) } else { file },
            length_max: listed.length.map_or(DELEGATED_BYTES_MAX, |length| length.min(DELEGATED_BYTES_MAX)),
        })
    }

    /// Takes what the caller has kept for the role that [`Search::next`] asked for. `false` if it is not what is needed now,
    /// whatever the reason: then it must be fetched.
    pub fn try_stored(&mut self, bytes: &[u8]) -> bool {
        let Some(Ok(signed)) = self.current().map(|(delegation, listed)| self.accept(delegation, listed, bytes)) else {
            return false;
        };
        self.step(&signed.content);
        true
    }

    /// As [`Search::try_stored`] when nobody can be asked: an earlier version will do, if the keys that its delegator names
    /// now vouch for it. Good enough to go on with what was right when it came, never to begin with something new.
    pub fn try_outdated(&mut self, bytes: &[u8]) -> bool {
        let taken = self.current().and_then(|(delegation, listed)| {
            let signed = Envelope::<Targets>::parse(bytes).ok()?;
            let vouched = signed.version <= listed.version && signed.verify(&delegation.keys).is_ok();
            vouched.then_some(signed.content)
        });
        taken.inspect(|targets| self.step(targets)).is_some()
    }

    /// Takes the file that [`Search::next`] asked for; `None` if the repository does not have it. What is returned is worth
    /// keeping for the next search.
    ///
    /// # Errors
    /// [`Refusal::Delegated`], which says why. The search is over then: "if any metadata requested cannot be downloaded nor
    /// validated, end the search and report that the target cannot be found" (TUF 5.6.7).
    pub fn supply(&mut self, bytes: Option<&[u8]>) -> Result<Keep, Refusal> {
        let request = self.next().ok_or(Refusal::NotAsked)?;
        let (delegation, listed) = self.current().ok_or(Refusal::NotAsked)?;
        let name = delegation.name.clone();
        let accepted = match bytes {
            Some(bytes) => self.accept(delegation, listed, bytes).map(|signed| (signed, bytes)),
            None => Err(Refusal::Missing { file: request.file }),
        };
        match accepted {
            Ok((signed, bytes)) => {
                self.step(&signed.content);
                let (delegated, version, bytes) = (Some(name), signed.version, bytes.to_vec());
                Ok(Keep { role: Role::Targets, delegated, version, bytes, forget: Vec::new() })
            }
            Err(refusal) => {
                let refusal = Refusal::Delegated { name, refusal: Box::new(refusal) };
                self.outcome = Some(Err(refusal.clone()));
                Err(refusal)
            }
        }
    }

    /// How the search ended.
    ///
    /// # Errors
    /// [`Refusal::UnknownTarget`] if no role lists the target; [`Refusal::TooManyRoles`]; [`Refusal::Delegated`], also when
    /// the snapshot does not list a role that had to be asked; [`Refusal::Incomplete`] if it has not ended.
    pub fn finish(self) -> Result<Found, Refusal> {
        self.outcome.unwrap_or(Err(Refusal::Incomplete { role: Role::Targets }))
    }

    /// The highest floor of the app that was met so far.
    pub(crate) fn floor(&self) -> Option<&Version> {
        self.floor.as_ref()
    }

    /// The role that is asked next, and what the snapshot says of its metadata.
    fn current(&self) -> Option<(&Delegation, &Metafile)> {
        let delegation = self.ahead.last().filter(|_| self.outcome.is_none())?;
        Some((delegation, self.listed(&delegation.name)?))
    }

    fn listed(&self, name: &str) -> Option<&Metafile> {
        self.set.current_snapshot()?.content.files.get(&format!("{name}.json"))
    }

    /// The rules for delegated metadata, which are those for the top-level one (TUF 5.6.2 to 5.6.5), with the keys that its
    /// delegator in this search names.
    fn accept(&self, delegation: &Delegation, listed: &Metafile, bytes: &[u8]) -> Result<Envelope<Targets>, Refusal> {
        let (role, length) = (Role::Targets, bytes.len() as u64);
        if length > DELEGATED_BYTES_MAX {
            return Err(Refusal::TooLong { role, length, length_max: DELEGATED_BYTES_MAX });
        }
        let signed = Envelope::<Targets>::parse_named(bytes, listed)?;
        signed.verify(&delegation.keys)?;
        if signed.version != listed.version {
            return Err(Refusal::WrongVersion { role, expected: listed.version, offered: signed.version });
        }
        signed.check_expiry(self.now)?;
        Ok(signed)
    }

    /// Goes on with the role that was asked, which has answered.
    fn step(&mut self, targets: &Targets) {
        if let Some(Delegation { name, .. }) = self.ahead.pop() {
            self.visited.insert(name.clone());
            self.visit(Some(name), targets);
        }
    }

    /// TUF 5.6.7.1 and 5.6.7.2 for a role whose metadata is here.
    fn visit(&mut self, role: Option<String>, targets: &Targets) {
        if let Some(floor) = self.app.as_ref().and_then(|app| release::floor(targets, app))
            && self.floor.as_ref().is_none_or(|highest| floor.semver() > highest.semver())
        {
            self.floor = Some(floor);
        }
        if let Some(target) = targets.targets.get(&self.path) {
            let file = target.file(&self.path, self.set.root.content.consistent_snapshot);
            self.outcome = Some(Ok(Found { path: self.path.clone(), target: target.clone(), role, file }));
            return;
        }
        self.descend(&targets.delegations);
        self.settle();
    }

    /// Puts the delegations that cover the path before all that is still ahead, and what a terminating one ends out of it.
    fn descend(&mut self, delegations: &[Delegation]) {
        let mut next = Vec::new();
        for delegation in delegations.iter().filter(|delegation| delegation.covers(&self.path, &self.digest)) {
            // More than can be asked need not be remembered.
            if !self.visited.contains(&delegation.name) && next.len() <= ROLES_PER_SEARCH_MAX {
                next.push(delegation.clone());
            }
            // 5.6.7.2.1: nothing after it is asked, neither here nor further up.
            if delegation.terminating {
                self.ahead.clear();
                break;
            }
        }
        next.reverse();
        self.ahead.append(&mut next);
    }

    /// Passes over roles that were visited before, and ends the search where it must end.
    fn settle(&mut self) {
        while self.ahead.last().is_some_and(|delegation| self.visited.contains(&delegation.name)) {
            self.ahead.pop();
        }
        let path = self.path.clone();
        let Some(delegation) = self.ahead.last() else {
            self.outcome = Some(Err(Refusal::UnknownTarget { path, delegated: false }));
            return;
        };
        // The top does not count.
        if self.visited.len() > ROLES_PER_SEARCH_MAX {
            self.outcome = Some(Err(Refusal::TooManyRoles { path, roles_max: ROLES_PER_SEARCH_MAX }));
        } else if self.listed(&delegation.name).is_none() {
            let name = delegation.name.clone();
            let refusal = Box::new(Refusal::Unlisted { file: format!("{name}.json") });
            self.outcome = Some(Err(Refusal::Delegated { name, refusal }));
        }
    }
}

/// The name of the file that holds the metadata of the delegated role `name`: as in a URL (RFC 3986 section 2.1) everything
/// but letters, digits and `-._~` is percent-encoded. It is safe as a file's name too, holds no `/` and always ends in
/// `.json`, and different roles have different ones.
pub fn role_file(name: &str) -> String {
    let mut file = String::with_capacity(name.len() + 5);
    for byte in name.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => file.push(char::from(byte)),
            // Writing into a String cannot fail.
            _ => drop(write!(file, "%{byte:02X}")),
        }
    }
    file + ".json"
}
