//! What is where in an image.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;

use serde::Deserialize;

use super::ext4::Ext4;
use super::fat::Fat;
use super::{ImageError, tools};

/// Offset of the ext superblock's magic number in a file system, and the number (ext4 documentation, "Super Block").
const EXT_MAGIC: (u64, [u8; 2]) = (1024 + 0x38, [0x53, 0xef]);
/// Where FAT says that it is FAT: of FAT16 and FAT32 (Microsoft, "FAT: General Overview of On-Disk Format").
const FAT_NAMES: [u64; 2] = [54, 82];
/// More partitions than any board's image has.
const PARTITIONS_MAX: usize = 128;

#[derive(Deserialize)]
struct Table {
    partitiontable: Partitions,
}

#[derive(Deserialize)]
struct Partitions {
    #[serde(default = "usual_sector")]
    sectorsize: u64,
    #[serde(default)]
    partitions: Vec<Partition>,
}

fn usual_sector() -> u64 {
    512
}

#[derive(Deserialize)]
struct Partition {
    start: u64,
}

/// The parts of an image that are written.
#[derive(Debug)]
pub struct Parts {
    /// The system.
    pub root: Ext4,
    /// The partition that a laptop can read, if there is one.
    pub boot: Option<Fat>,
    /// The number of the root partition, counted from 1, if nothing lies behind it: then it can grow.
    pub growing: Option<usize>,
}

/// Finds the parts of `image`, which `stock` is for people.
pub fn find(image: &Path, stock: &Path) -> Result<Parts, ImageError> {
    let unknown = |found: String| ImageError::UnknownLayout { path: stock.to_owned(), found };
    let text = tools::said("sfdisk", tools::command("sfdisk").arg("--json").arg(image));
    let text = text.map_err(|error| match error {
        ImageError::Tool { reason, .. } => unknown(format!("no partition table ({reason})")),
        other => other,
    })?;
    let table: Table = serde_json::from_slice(&text).map_err(|error| unknown(format!("the table is odd: {error}")))?;
    let Partitions { sectorsize, partitions } = table.partitiontable;
    let read = |source| ImageError::Read { path: image.to_owned(), source };
    let mut file = File::open(image).map_err(read)?;
    let (mut root, mut boot, mut kinds, mut growing) = (None, None, Vec::new(), None);
    let last = partitions.iter().map(|partition| partition.start).max();
    for (place, partition) in partitions.iter().take(PARTITIONS_MAX).enumerate() {
        let offset = partition.start.saturating_mul(sectorsize);
        if has(&mut file, offset + EXT_MAGIC.0, &EXT_MAGIC.1).map_err(read)? {
            kinds.push("ext4");
            let found = Ext4::new(image, offset);
            if root.is_none() && found.is_file("/etc/os-release")? {
                root = Some(found);
                growing = (Some(partition.start) == last).then_some(place + 1);
            }
        } else if is_fat(&mut file, offset).map_err(read)? {
            kinds.push("FAT");
            boot.get_or_insert(Fat::new(image, offset));
        } else {
            kinds.push("something else");
        }
    }
    let found = if kinds.is_empty() { "no partitions".to_owned() } else { kinds.join(", ") };
    Ok(Parts { root: root.ok_or_else(|| unknown(found))?, boot, growing })
}

fn is_fat(file: &mut File, offset: u64) -> io::Result<bool> {
    for name in FAT_NAMES {
        if has(file, offset + name, b"FAT")? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn has(file: &mut File, at: u64, expected: &[u8]) -> io::Result<bool> {
    file.seek(SeekFrom::Start(at))?;
    let mut found = vec![0; expected.len()];
    match file.read_exact(&mut found) {
        Ok(()) => Ok(found == expected),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}
