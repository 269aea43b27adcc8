//! How a release is named among the targets: the path of its manifest and the custom fields beside it.

use std::collections::BTreeMap;

use orangery_wire::{AppName, Digest, ReleaseId, UnixTime, Version};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::client::{Search, TrustedSet};
use crate::metadata::{Target, Targets};
use crate::refusal::Refusal;

/// The target path of a release's manifest: `APP/VERSION/manifest.json`.
pub fn target_path(app: &AppName, version: &Version) -> String {
    format!("{app}/{version}/manifest.json")
}

/// Where a target of this path and digest is served below `/targets/`, with consistent snapshots: the digest stands before
/// the file's name, `APP/VERSION/SHA256.manifest.json` (TUF 5.7.3, 6.2).
pub fn target_file(path: &str, digest: &Digest) -> String {
    match path.rsplit_once('/') {
        Some((directory, name)) => format!("{directory}/{digest}.{name}"),
        None => format!("{digest}.{path}"),
    }
}

/// The custom fields of a target that is a release's manifest. Fields that are not known are left alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Custom {
    /// The app.
    pub app: AppName,
    /// The version.
    pub version: Version,
    /// The oldest version of the app that nodes may still be given, from this release on. The highest floor among the
    /// app's releases holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub floor: Option<Version>,
}

/// A release that the owner vouches for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// The app.
    pub app: AppName,
    /// The version.
    pub version: Version,
    /// The digest of its manifest.
    pub id: ReleaseId,
    /// The length of its manifest in bytes; never fetch more.
    pub length: u64,
    /// Where the manifest is served below `/targets/`.
    pub file: String,
}

impl TrustedSet {
    /// The release `version` of `app`, if the whole chain of metadata is there, valid at `now`, lists it, and the owner's
    /// floor allows it.
    ///
    /// # Errors
    /// As [`TrustedSet::target`]; [`Refusal::NotARelease`], [`Refusal::BelowFloor`].
    pub fn release(&self, app: &AppName, version: &Version, now: UnixTime) -> Result<Release, Refusal> {
        let path = target_path(app, version);
        let release = read(&path, self.target(&path, now)?)?;
        match self.targets_content().and_then(|targets| floor(targets, app)) {
            Some(floor) if version.semver() < floor.semver() => {
                Err(Refusal::BelowFloor { app: app.clone(), version: version.clone(), floor })
            }
            _ => Ok(release),
        }
    }
}

impl<'a> Search<'a> {
    /// Begins the search for the release `version` of `app`: as [`TrustedSet::release`], but the roles that targets are
    /// delegated to are asked too. [`Search::release`] says how it ended.
    ///
    /// # Errors
    /// As [`Search::begin`].
    pub fn for_release(set: &'a TrustedSet, app: &AppName, version: &Version, now: UnixTime) -> Result<Self, Refusal> {
        Self::begin_for(set, &target_path(app, version), Some(app.clone()), now)
    }

    /// The release that was found.
    ///
    /// # Errors
    /// As [`Search::finish`]; [`Refusal::NotARelease`], [`Refusal::BelowFloor`]. The floors that any visited role sets for
    /// the app hold: who answers for a release could as well have withheld it.
    pub fn release(self) -> Result<Release, Refusal> {
        let floor = self.floor().cloned();
        let found = self.finish()?;
        let release = Release { file: found.file, ..read(&found.path, &found.target)? };
        match floor {
            Some(floor) if release.version.semver() < floor.semver() => {
                Err(Refusal::BelowFloor { app: release.app, version: release.version, floor })
            }
            _ => Ok(release),
        }
    }
}

/// What the target at `path` says of itself, which must agree with its path.
pub(crate) fn read(path: &str, target: &Target) -> Result<Release, Refusal> {
    let refuse =
        |reason: String| Refusal::NotARelease { path: path.to_owned(), reason: orangery_wire::limits::reason(reason) };
    let custom = Custom::deserialize(&Value::Object(target.custom.fields())).map_err(|err| refuse(err.to_string()))?;
    if target_path(&custom.app, &custom.version) != path {
        return Err(refuse(format!("it is said to be {} of {}", custom.version, custom.app)));
    }
    let digest = target.sha256().ok_or_else(|| refuse("it has no SHA-256".to_owned()))?;
    Ok(Release {
        app: custom.app,
        version: custom.version,
        id: ReleaseId(digest),
        length: target.length,
        file: target_file(path, &digest),
    })
}

/// The highest floor that any release of the app sets in these targets.
pub(crate) fn floor(targets: &Targets, app: &AppName) -> Option<Version> {
    floor_of(&targets.targets, app)
}

/// The highest floor that any release of the app sets.
pub(crate) fn floor_of(targets: &BTreeMap<String, Target>, app: &AppName) -> Option<Version> {
    let prefix = format!("{app}/");
    let of_app = targets.range(prefix.clone()..).take_while(|(path, _)| path.starts_with(&prefix));
    let floors =
        of_app.filter_map(|(_, target)| Custom::deserialize(&Value::Object(target.custom.fields())).ok()?.floor);
    floors.max_by(|a, b| a.semver().cmp(b.semver()))
}
