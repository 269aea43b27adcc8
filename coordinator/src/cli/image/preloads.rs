//! Releases that images come with.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use orangery_wire::Digest;
use orangery_wire::token::Token;

use crate::cli::args::ReleaseName;
use crate::cli::repo;
use crate::home::Home;
use crate::release::archive;
use crate::{copies, output, sha256};

/// Most releases in one image.
const COUNT_MAX: usize = 16;
/// Largest bundle that an image is given, in bytes.
const BUNDLE_BYTES_MAX: u64 = 1 << 30;
/// Where a bundle has the owner's first root.
const FIRST_ROOT: &str = "metadata/1.root.json";
/// Most bytes of it that are read.
const ROOT_BYTES_MAX: u64 = 512 * 1024;

/// Bundles for an image, and whose they are.
pub struct Preloads {
    /// The names that they get, and where they lie.
    pub files: Vec<(String, PathBuf)>,
    roots: Vec<Digest>,
    /// Those that were made here; they go with it.
    made: tempfile::TempDir,
}

impl Preloads {
    /// Makes a bundle of each release that is named, and looks into those that are files already.
    pub async fn gather(home: &Home, wanted: &[String]) -> anyhow::Result<Self> {
        let made = tempfile::tempdir().context("cannot make a temporary directory")?;
        let mut all = Self { files: Vec::new(), roots: Vec::new(), made };
        if wanted.len() > COUNT_MAX {
            bail!("--preload can be given {COUNT_MAX} times at most");
        }
        for (number, wanted) in wanted.iter().enumerate() {
            let given = Path::new(wanted);
            let path = if given.is_file() { given.to_owned() } else { all.make(home, wanted, number).await? };
            let (name, root) = look(&path).with_context(|| format!("cannot preload {wanted}"))?;
            if all.files.iter().any(|(other, _)| *other == name) {
                bail!("{wanted} is given twice with --preload");
            }
            all.files.push((name, path));
            all.roots.push(root);
        }
        Ok(all)
    }

    async fn make(&self, home: &Home, wanted: &str, number: usize) -> anyhow::Result<PathBuf> {
        let release: ReleaseName =
            wanted.parse().map_err(|error| anyhow::anyhow!("{wanted} is neither a file nor a release: {error}"))?;
        let (client, copies) = repo::gather(home, vec![release]).await?;
        let path = self.made.path().join(number.to_string());
        let progress = output::progress("fetching");
        let written = copies::bundle(&client, &copies, &path, &progress).await;
        progress.finish_and_clear();
        written?;
        Ok(path)
    }

    /// Whether a node with this token will believe what it comes with.
    pub fn check(&self, token: &str) -> anyhow::Result<()> {
        if self.roots.is_empty() {
            return Ok(());
        }
        let token: Token = token.parse().context("cannot use the invite token")?;
        if self.roots.iter().any(|root| *root != token.root) {
            bail!(
                "a bundle of --preload is of another owner than the invite: the board would refuse it; \
                 make it with `orangery bundle` where the invite comes from"
            );
        }
        Ok(())
    }
}

/// The release whose manifest this is: `targets/APP/VERSION/DIGEST.manifest.json`.
fn release(section: &str) -> Option<ReleaseName> {
    let mut parts = section.strip_prefix("targets/")?.split('/');
    let (app, version, file) = (parts.next()?, parts.next()?, parts.next()?);
    file.ends_with(".manifest.json").then_some(())?;
    Some(ReleaseName { app: app.parse().ok()?, version: version.parse().ok()? })
}

/// The name for a bundle's file, and its root of trust.
fn look(path: &Path) -> anyhow::Result<(String, Digest)> {
    let mut file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let size_bytes = file.metadata()?.len();
    if size_bytes > BUNDLE_BYTES_MAX {
        bail!("it has {}, and {} are the most", output::size(size_bytes), output::size(BUNDLE_BYTES_MAX));
    }
    let sections = archive::read_sections(&mut file).context("it is not a bundle; make it with `orangery bundle`")?;
    let releases: Vec<ReleaseName> = sections.iter().filter_map(|section| release(&section.name)).collect();
    let [release] = &releases[..] else {
        bail!("it has {} releases; an image takes bundles with one each", releases.len());
    };
    let name = format!("{}@{}.bundle", release.app, release.version);
    let Some(root) = sections.iter().find(|section| section.name == FIRST_ROOT) else {
        bail!("it has no root of trust; make it again with `orangery bundle`");
    };
    file.seek(SeekFrom::Start(root.offset))?;
    Ok((name, sha256::of(&mut (&mut file).take(root.size_bytes.min(ROOT_BYTES_MAX)))?))
}
