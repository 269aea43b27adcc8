//! Room, the file system, and the flash below it.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::{Code, Findings, Node, read, size};
use crate::reserve::Reserve;

/// Less than this part of the disk is little, unless it is a lot.
const LOW_PART: u64 = 10;
const PLENTY_BYTES: u64 = 1 << 30;
/// With less than this a disk is full, for records and events need room.
const FULL_BYTES: u64 = 1 << 20;
/// Fewer files than this are few.
const INODES_LOW: u64 = 1_000;
/// A flash module says how much of its life is used up in tenths: 9 is 80 to 90 %.
const LIFE_TENTHS: u32 = 9;

pub(super) fn disk(node: &Node, found: &mut Findings) {
    // Before the first start only the directory above is there.
    let root = node.layout.root();
    let place = root.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    let fs = match rustix::fs::statvfs(place) {
        Ok(fs) => fs,
        Err(error) => return found.add(Code::NotLooked, format!("{}: {error}", place.display())),
    };
    let (all, free) = (fs.f_blocks.saturating_mul(fs.f_frsize), fs.f_bavail.saturating_mul(fs.f_frsize));
    let what = format!("{} of {} are free for {}", size(free), size(all), place.display());
    let reserve = Reserve::new(&node.layout, node.settings.fetch.reserve_bytes);
    // Whoever wants no reserve needs room nevertheless.
    if free < reserve.size_bytes().max(FULL_BYTES.min(all / LOW_PART)) {
        found.add(Code::DiskFull, what);
    } else if free < all / LOW_PART && free < PLENTY_BYTES {
        found.add(Code::DiskLow, what);
    } else {
        found.ok(what);
    }
    // It is made by the first agent that runs here.
    if reserve.missing_bytes() > 0 && (node.view().is_some() || node.layout.reserve().exists()) {
        let (missing, whole) = (size(reserve.missing_bytes()), size(reserve.size_bytes()));
        found.add(Code::ReserveMissing, format!("{missing} of {whole} are missing"));
    }
    if fs.f_files > 0 && fs.f_favail < INODES_LOW {
        found.add(Code::InodesLow, format!("{} more files", fs.f_favail));
    }
    if fs.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY) {
        found.add(Code::DiskReadOnly, format!("{} is on a file system that is read-only", place.display()));
    }
}

pub(super) fn flash(node: &Node, found: &mut Findings) {
    let Some(device) = device(node.layout.root()) else { return };
    let errors = read(format!("/sys/fs/ext4/{device}/errors_count")).and_then(|text| text.parse::<u64>().ok());
    match errors {
        Some(0) => found.ok(format!("no errors in the file system on {device}")),
        Some(count) => found.add(Code::DiskErrors, format!("{count} errors in the file system on {device}")),
        None => {}
    }
    // A partition's directory lies in its disk's.
    let Ok(block) = std::fs::canonicalize(format!("/sys/class/block/{device}")) else { return };
    let module =
        [block.join("device"), block.join("../device")].into_iter().find(|path| path.join("life_time").exists());
    let Some(module) = module else { return };
    let hex = |word: &str| u32::from_str_radix(word.trim_start_matches("0x"), 16).ok();
    let used = read(module.join("life_time")).unwrap_or_default();
    let tenths = used.split_whitespace().filter_map(hex).max().unwrap_or(0);
    let near_its_end = read(module.join("pre_eol_info")).as_deref().and_then(hex).is_some_and(|state| state > 1);
    let what = format!("up to {} % of the life of the flash are used", tenths.min(10) * 10);
    if tenths >= LIFE_TENTHS || near_its_end { found.add(Code::FlashWorn, what) } else { found.ok(what) }
}

/// The block device below a path, such as `mmcblk0p2`.
fn device(path: &Path) -> Option<String> {
    let number = path.ancestors().find_map(|path| std::fs::metadata(path).ok())?.dev();
    let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
    let target = std::fs::read_link(format!("/sys/dev/block/{major}:{minor}")).ok()?;
    Some(target.file_name()?.to_str()?.to_owned())
}
