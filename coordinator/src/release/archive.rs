//! Files in one file, written and read: the strict subset of ustar that [`orangery_wire::container`] defines.

use std::io::{self, Read, Seek, SeekFrom, Write};

use orangery_wire::container::{self, header, read_header};

const BLOCK: usize = container::BLOCK_BYTES;
const BLOCK_LENGTH: u64 = BLOCK as u64;
/// Most bytes of one section.
pub const SECTION_BYTES_MAX: u64 = container::CONTENT_BYTES_MAX;
/// Most sections that are read before the file is refused.
const SECTIONS_MAX: usize = 4_096;

/// One named run of bytes in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// Its name.
    pub name: String,
    /// Where its bytes begin.
    pub offset: u64,
    /// How many there are.
    pub size_bytes: u64,
}

/// Why a file is not one of ours.
#[derive(Debug, thiserror::Error)]
pub enum BadArchive {
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] io::Error),
    /// It ends too early.
    #[error("it is cut short")]
    Cut,
    /// It is not written as this program writes it.
    #[error("it is not a bundle that `orangery release build` wrote, or was changed since (at byte {offset})")]
    Foreign {
        /// Where.
        offset: u64,
    },
}

/// Writes one section. `content` must have exactly `size_bytes`.
pub fn write_section(out: &mut impl Write, name: &str, size_bytes: u64, content: impl Read) -> io::Result<()> {
    out.write_all(&header(name, size_bytes).ok_or(io::ErrorKind::InvalidInput)?)?;
    let copied = io::copy(&mut content.take(size_bytes), out)?;
    if copied != size_bytes {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    out.write_all(zeros(padding(size_bytes)))
}

/// Writes the end: two empty blocks.
pub fn write_end(out: &mut impl Write) -> io::Result<()> {
    out.write_all(&[0; 2 * BLOCK])
}

/// Finds all sections of `file`, which must end where the archive ends.
pub fn read_sections(file: &mut (impl Read + Seek)) -> Result<Vec<Section>, BadArchive> {
    let length = file.seek(SeekFrom::End(0))?;
    let mut sections = Vec::new();
    let mut at = 0;
    loop {
        let block = read_block(file, at)?;
        if block == [0; BLOCK] {
            return at_end(file, at, length).map(|()| sections);
        }
        let foreign = || BadArchive::Foreign { offset: at };
        let (name, size_bytes) = read_header(&block).filter(|_| sections.len() < SECTIONS_MAX).ok_or_else(foreign)?;
        let offset = at + BLOCK_LENGTH;
        at = offset + size_bytes + padding(size_bytes) as u64;
        if at > length {
            return Err(BadArchive::Cut);
        }
        ensure_padding(file, offset + size_bytes, at)?;
        sections.push(Section { name, offset, size_bytes });
    }
}

fn at_end(file: &mut (impl Read + Seek), at: u64, length: u64) -> Result<(), BadArchive> {
    if read_block(file, at + BLOCK_LENGTH)? != [0; BLOCK] || length != at + 2 * BLOCK_LENGTH {
        return Err(BadArchive::Foreign { offset: at });
    }
    Ok(())
}

fn ensure_padding(file: &mut (impl Read + Seek), from: u64, to: u64) -> Result<(), BadArchive> {
    file.seek(SeekFrom::Start(from))?;
    let mut padding = Vec::new();
    file.take(to - from).read_to_end(&mut padding)?;
    if padding.iter().all(|byte| *byte == 0) { Ok(()) } else { Err(BadArchive::Foreign { offset: from }) }
}

fn read_block(file: &mut (impl Read + Seek), at: u64) -> Result<[u8; BLOCK], BadArchive> {
    let mut block = [0; BLOCK];
    file.seek(SeekFrom::Start(at))?;
    file.read_exact(&mut block).map_err(|e| match e.kind() {
        io::ErrorKind::UnexpectedEof => BadArchive::Cut,
        _ => BadArchive::Read(e),
    })?;
    Ok(block)
}

fn padding(size_bytes: u64) -> usize {
    // Below 512.
    usize::try_from(container::padding(size_bytes)).unwrap_or_default()
}

fn zeros(count: usize) -> &'static [u8] {
    static ZEROS: [u8; BLOCK] = [0; BLOCK];
    ZEROS.get(..count).unwrap_or(&ZEROS)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn two_sections() -> Vec<u8> {
        let mut bytes = Vec::new();
        write_section(&mut bytes, "manifest.json", 2, &b"{}"[..]).unwrap();
        write_section(&mut bytes, "packs/x", 512, &[7; 512][..]).unwrap();
        write_end(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn what_was_written_is_found_again() {
        let sections = read_sections(&mut Cursor::new(two_sections())).unwrap();
        let expected = [
            Section { name: "manifest.json".into(), offset: 512, size_bytes: 2 },
            Section { name: "packs/x".into(), offset: 1536, size_bytes: 512 },
        ];
        assert_eq!(sections, expected);
    }

    #[test]
    fn tar_lists_and_unpacks_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("bundle");
        std::fs::write(&path, two_sections()).unwrap();
        let tar =
            std::process::Command::new("tar").arg("-xvf").arg(&path).arg("-C").arg(directory.path()).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&tar.stdout), "manifest.json\npacks/x\n");
        assert_eq!(std::fs::read(directory.path().join("packs/x")).unwrap(), [7; 512]);
    }

    #[test]
    fn every_changed_byte_beside_the_contents_and_every_cut_is_refused() {
        let good = two_sections();
        for at in (0..512).chain(514..1536).chain(good.len() - 1024..good.len()) {
            let mut bad = good.clone();
            bad[at] ^= 1;
            // A changed name with a fitting checksum would be another archive; one flipped bit never is.
            assert!(read_sections(&mut Cursor::new(bad)).is_err(), "byte {at}");
        }
        for length in 0..good.len() {
            assert!(read_sections(&mut Cursor::new(&good[..length])).is_err(), "length {length}");
        }
        let longer = [good, vec![0; 512]].concat();
        assert!(read_sections(&mut Cursor::new(longer)).is_err());
    }

    #[test]
    fn a_content_that_is_shorter_than_said_is_an_error() {
        assert!(write_section(&mut Vec::new(), "a", 3, &b"12"[..]).is_err());
        assert!(write_section(&mut Vec::new(), "a", SECTION_BYTES_MAX + 1, io::empty()).is_err());
        assert!(write_section(&mut Vec::new(), &"n".repeat(100), 0, io::empty()).is_err());
    }
}
