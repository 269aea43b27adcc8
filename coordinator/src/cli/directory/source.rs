//! Where commits come from: a checkout on this machine, or a branch of a repository elsewhere, fetched into a copy of our own.

use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use serde::Serialize;

use super::commit::{self, CommitError};
use super::git::Git;
use crate::fleet::Desired;
use crate::output;

/// What a fetched branch is called in the copy.
const FETCHED: &str = "refs/orangery/followed";
/// The setting of a copy that says of what it is one.
const COPY_OF: &str = "orangery.copy-of";
/// So many characters of an author's name and of a commit's first line are shown and kept.
const WORDS_MAX: usize = 120;

/// What is followed.
#[derive(Debug, Clone)]
pub struct Source {
    git: Git,
    /// The name that is looked up in the repository.
    reference: String,
    /// Where the fleet directory is in a commit; empty for the top.
    path: String,
    remote: Option<Remote>,
    /// The SSH keys that count, and whose they are: a file of allowed signers (ssh-keygen(1)).
    signers: Option<PathBuf>,
}

/// A repository elsewhere.
#[derive(Debug, Clone)]
pub struct Remote {
    /// Its address: a path, `https://...`, `ssh://...` or `USER@HOST:PATH`.
    pub url: String,
    /// The longest time of a fetch.
    pub time_max: Duration,
}

/// A commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Seen {
    /// Its id.
    pub commit: String,
    /// The id of the fleet directory in it: the same id, the same files.
    pub tree: String,
    /// Who made it, as the commit itself says.
    pub author: String,
    /// Its first line.
    pub subject: String,
    /// Who signed it, if that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signer: Option<String>,
}

impl Seen {
    /// The commit and who stands behind it, for records.
    pub fn origin(&self) -> String {
        match &self.signer {
            Some(signer) => format!("commit {} signed by {signer}", self.commit),
            None => format!("commit {} by {}", self.commit, self.author),
        }
    }
}

impl Source {
    /// The checkout that `directory` is in, or a bare repository: its HEAD, or a branch.
    pub async fn here(directory: &Path, path: Option<&str>, branch: Option<&str>) -> anyhow::Result<Self> {
        let git = Git::at(directory);
        let failed = || format!("{} is in no git repository that can be read", directory.display());
        let prefix = git.line(&["rev-parse", "--show-prefix"]).await.with_context(failed)?;
        let path = checked_path(path.unwrap_or(&prefix))?;
        let reference = branch.map_or_else(|| Ok("HEAD".to_owned()), branch_name)?;
        Ok(Self { git, reference, path, remote: None, signers: None })
    }

    /// A branch of a repository elsewhere, of which `directory` is the copy. The copy is made if it is not there.
    pub async fn elsewhere(
        directory: &Path,
        path: Option<&str>,
        branch: Option<&str>,
        remote: Remote,
    ) -> anyhow::Result<Self> {
        check_address(&remote.url)?;
        let path = checked_path(path.unwrap_or_default())?;
        let reference = branch.map_or_else(|| Ok("HEAD".to_owned()), branch_name)?;
        std::fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
        let git = Git::at(directory);
        let own = |name: &str| directory.join(name).exists();
        if !own("HEAD") {
            let mut there =
                std::fs::read_dir(directory).with_context(|| format!("cannot list {}", directory.display()))?;
            ensure!(
                there.next().is_none(),
                "{} is neither empty nor a copy: name another directory",
                directory.display()
            );
            git.line(&["init", "--quiet", "--bare", "."]).await?;
        }
        // Of a checkout somewhere above, git would answer, too.
        ensure!(own("objects") && own("refs"), "{} is no bare repository: name another directory", directory.display());
        match git.line(&["config", "--local", "--get", COPY_OF]).await {
            Ok(url) if url == remote.url => {}
            Ok(url) => bail!("{} is a copy of {url}: name another directory, or remove it", directory.display()),
            // A copy that was begun and never filled is begun again.
            Err(_) if git.line(&["for-each-ref", "--count=1"]).await?.is_empty() => {
                git.line(&["config", "--local", COPY_OF, &remote.url]).await?;
            }
            Err(_) => bail!("{} is a repository and no copy of ours: name another directory", directory.display()),
        }
        Ok(Self { git, reference, path, remote: Some(remote), signers: None })
    }

    /// Only commits that one of these has signed count from now on.
    pub fn signed_by(mut self, signers: &Path) -> anyhow::Result<Self> {
        let failed = || format!("cannot read the allowed signers in {}", signers.display());
        self.signers = Some(signers.canonicalize().with_context(failed)?);
        Ok(self)
    }

    /// The same directory in one commit and no other.
    pub fn at_commit(mut self, commit: &str) -> anyhow::Result<Self> {
        ensure!(!commit.starts_with('-') && !commit.contains(char::is_whitespace), "{commit:?} is no name of a commit");
        commit.clone_into(&mut self.reference);
        Ok(self)
    }

    /// What is followed, in words.
    pub fn text(&self) -> String {
        let at = self.git.directory().display();
        let place = if self.path.is_empty() { String::new() } else { format!("{} of ", self.path) };
        match &self.remote {
            Some(remote) => format!("{place}{} of {}", self.reference, remote.url),
            None => format!("{place}{} of {at}", self.reference),
        }
    }

    /// Where the repository is on this machine.
    pub fn directory(&self) -> &Path {
        self.git.directory()
    }

    /// Where the fleet directory is in a commit.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The branch as it is now.
    pub async fn look(&self) -> anyhow::Result<Seen> {
        let name = match &self.remote {
            Some(remote) => {
                let refspec = format!("+{}:{FETCHED}", self.reference);
                let words = [
                    "fetch",
                    "--quiet",
                    "--force",
                    "--no-tags",
                    "--no-recurse-submodules",
                    "--",
                    &remote.url,
                    &refspec,
                ];
                let failed = || format!("cannot fetch {} of {}", self.reference, remote.url);
                self.git.fetch(&words, remote.time_max).await.with_context(failed)?;
                FETCHED
            }
            None => &self.reference,
        };
        self.seen(name).await
    }

    async fn seen(&self, name: &str) -> anyhow::Result<Seen> {
        let failed = || format!("there is no commit {name} in {}", self.git.directory().display());
        let commit =
            self.git.line(&["rev-parse", "--verify", &format!("{name}^{{commit}}")]).await.with_context(failed)?;
        let place = commit::place(&commit, &self.path);
        let no_tree = || format!("there is no directory {}", place.display());
        let tree = format!("{commit}:{}", self.path);
        let tree = self.git.line(&["rev-parse", "--verify", &tree]).await.with_context(no_tree)?;
        let about = self.git.line(&["log", "-1", "--no-show-signature", "--format=%an <%ae>%x00%s", &commit]).await?;
        let (author, subject) = about.split_once('\0').unwrap_or((&about, ""));
        Ok(Seen { author: words(author), subject: words(subject), commit, tree, signer: None })
    }

    /// Whether `commit` has `earlier` among those that it came from. A repository that knows `earlier` no more says no.
    pub async fn follows(&self, commit: &str, earlier: &str) -> bool {
        self.git.line(&["merge-base", "--is-ancestor", earlier, commit]).await.is_ok()
    }

    /// Who signed a commit, if that matters here; `Err` says why its signature does not count.
    pub async fn signer(&self, commit: &str) -> Result<Option<String>, String> {
        let Some(signers) = &self.signers else { return Ok(None) };
        // Keyrings of this machine's user are not asked: the file says who counts.
        let settings = [
            "gpg.program=false".to_owned(),
            "gpg.x509.program=false".to_owned(),
            "gpg.ssh.program=ssh-keygen".to_owned(),
            format!("gpg.ssh.allowedSignersFile={}", signers.display()),
        ];
        let words = ["log", "-1", "--no-show-signature", "--format=%G?%x00%GS", commit];
        let answer = self.git.line_with(&settings, &words).await.map_err(|error| error.to_string())?;
        match answer.split_once('\0') {
            Some(("G", signer)) if !signer.is_empty() => Ok(Some(self::words(signer))),
            Some(("N", _)) => Err("it is not signed".to_owned()),
            _ => Err(format!("its signature is by nobody who is named in {}", signers.display())),
        }
    }

    /// The directory in a commit, as it was seen.
    pub async fn read(&self, seen: &Seen) -> Result<Desired, CommitError> {
        commit::read(&self.git, &seen.tree, &commit::place(&seen.commit, &self.path)).await
    }
}

/// Whether an error is only that something is not there now.
pub fn is_lasting(error: &CommitError) -> bool {
    matches!(error, CommitError::Directory(_))
}

/// A text of a commit, for one line.
fn words(text: &str) -> String {
    output::clean(text).chars().take(WORDS_MAX).collect()
}

fn checked_path(path: &str) -> anyhow::Result<String> {
    let is_plain = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
    ensure!(is_plain, "{path:?} is no path in a repository: write it from the top, such as sites/home/fleet");
    Ok(path.trim_end_matches('/').to_owned())
}

fn branch_name(branch: &str) -> anyhow::Result<String> {
    let is_name = !branch.is_empty()
        && !branch.starts_with(['-', '/'])
        && !branch.contains("..")
        && branch.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_./+#".contains(&byte));
    ensure!(is_name, "{branch:?} is no branch that can be followed: letters, digits and -_./+# only");
    Ok(format!("refs/heads/{branch}"))
}

/// An address that says a password would show it to everybody who lists processes, and in the journal.
fn check_address(url: &str) -> anyhow::Result<()> {
    ensure!(!url.is_empty() && !url.starts_with('-') && !url.contains(char::is_control), "{url:?} is no address");
    if let Some((scheme, rest)) = url.split_once("://") {
        let known = ["https", "ssh", "file"];
        ensure!(
            known.contains(&scheme),
            "{scheme}:// is not followed: whoever is on the way could change what is fetched; write https:// or ssh://"
        );
        let authority = rest.split('/').next().unwrap_or_default();
        let has_password = authority.rsplit_once('@').is_some_and(|(user, _)| user.contains(':'));
        ensure!(
            !has_password,
            "the address has a password in it: leave it out, and give it to git by a credential helper (gitcredentials(7))"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_anybody_could_change_and_passwords_in_them_are_refused() {
        for fine in
            ["https://git.example.org/fleet.git", "ssh://git@example.org/fleet", "git@example.org:fleet", "/srv/fleet"]
        {
            assert!(check_address(fine).is_ok(), "{fine}");
        }
        let refused = |url: &str| check_address(url).unwrap_err().to_string();
        assert!(refused("http://example.org/fleet").contains("http:// is not followed"));
        assert!(refused("git://example.org/fleet").contains("git:// is not followed"));
        assert!(refused("https://ann:secret@example.org/fleet").contains("has a password in it"));
        assert!(!refused("https://ann:secret@example.org/fleet").contains("secret"));
        assert!(refused("--upload-pack=evil").contains("is no address"));
    }

    #[test]
    fn branches_and_paths_have_names_that_mean_nothing_else() {
        assert_eq!(branch_name("release/2026+x").unwrap(), "refs/heads/release/2026+x");
        for wrong in ["", "-x", "a..b", "a:b", "a*", "a b", "@{-1}", "/a"] {
            assert!(branch_name(wrong).is_err(), "{wrong:?}");
        }
        assert_eq!(checked_path("sites/home/").unwrap(), "sites/home");
        for wrong in ["/etc", "../x", "a/../b", "./a"] {
            assert!(checked_path(wrong).is_err(), "{wrong:?}");
        }
    }
}
