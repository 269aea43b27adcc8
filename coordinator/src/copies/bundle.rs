//! A copy as one file: [`orangery_wire::container`]. Unpacked by `tar` it is the directory that an export writes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write};
use std::path::Path;

use indicatif::ProgressBar;
use orangery_wire::Digest;
use orangery_wire::container::{header, padding};
use orangery_wire::messages::blob_path;

use super::{Copies, CopyError};
use crate::client::Client;
use crate::release::archive::{self, BadArchive};
use crate::sha256;

/// Writes `copies` as the file `out`: beside it first, read again, then in its place at once. Returns its size in bytes.
pub async fn bundle(client: &Client, copies: &Copies, out: &Path, progress: &ProgressBar) -> Result<u64, CopyError> {
    let write = |source| CopyError::Write { path: out.to_owned(), source };
    let directory = out.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new()
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .tempfile_in(directory)
        .map_err(write)?;
    progress.set_length(copies.packs.values().sum());
    let mut to = io::BufWriter::new(file.as_file_mut());
    for (name, bytes) in &copies.files {
        archive::write_section(&mut to, name, bytes.len() as u64, &bytes[..]).map_err(write)?;
    }
    for (digest, size_bytes) in &copies.packs {
        let name = pack_name(digest);
        to.write_all(&header(&name, *size_bytes).ok_or(io::ErrorKind::InvalidInput.into()).map_err(write)?)
            .map_err(write)?;
        let fetched = client.blob(digest, |piece| {
            progress.inc(piece.len() as u64);
            to.write_all(piece)
        });
        fetched.await?;
        io::copy(&mut io::repeat(0).take(padding(*size_bytes)), &mut to).map_err(write)?;
    }
    archive::write_end(&mut to).and_then(|()| to.flush()).map_err(write)?;
    drop(to);
    file.as_file().sync_all().map_err(write)?;
    let size_bytes = file.as_file().metadata().map_err(write)?.len();
    verify(file.as_file_mut(), copies)
        .map_err(|source| CopyError::DamagedBundle { path: out.to_owned(), source })?
        .then_some(())
        .ok_or_else(|| CopyError::Damaged { path: out.to_owned() })?;
    file.persist(out).map_err(|e| write(e.error))?;
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(write)?;
    Ok(size_bytes)
}

/// Reads the whole file again: whether everything is in it, byte for byte.
fn verify(file: &mut File, copies: &Copies) -> Result<bool, BadArchive> {
    let sections = archive::read_sections(file)?;
    let files: BTreeMap<&str, &[u8]> = copies.files.iter().map(|(name, bytes)| (name.as_str(), &bytes[..])).collect();
    let packs: BTreeMap<String, &Digest> = copies.packs.keys().map(|digest| (pack_name(digest), digest)).collect();
    if sections.len() != files.len() + packs.len() {
        return Ok(false);
    }
    for section in sections {
        file.seek(SeekFrom::Start(section.offset))?;
        let mut content = (&mut *file).take(section.size_bytes);
        let right = match (files.get(section.name.as_str()), packs.get(&section.name)) {
            (Some(bytes), _) => {
                let mut found = Vec::new();
                content.read_to_end(&mut found)?;
                found == *bytes
            }
            (None, Some(digest)) => sha256::of(&mut content)? == **digest,
            (None, None) => false,
        };
        if !right {
            return Ok(false);
        }
    }
    Ok(true)
}

fn pack_name(digest: &Digest) -> String {
    blob_path(digest).trim_start_matches('/').to_owned()
}
