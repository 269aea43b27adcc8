//! Files that say they are bundles: everything that an archive can hold and a bundle must not. None is opened, none changes
//! anything on the node.

#![allow(clippy::unwrap_used, reason = "these are tests, their helpers included")]

mod attacks;
mod origin;
mod owner;

use attacks::{World, app};
use orangery_agent::clock::Clock;
use orangery_agent::install::InstallFailure;
use orangery_agent::road::{Place, Road, RoadError};
use orangery_wire::container::{BLOCK_BYTES, header, padding};
use orangery_wire::messages::RefusalCode;

const TIMESTAMP: &str = "metadata/timestamp.json";

/// A file in a container, with a header of one's own making.
fn raw(header: &[u8; BLOCK_BYTES], content: &[u8]) -> Vec<u8> {
    let zeros = vec![0; usize::try_from(padding(content.len() as u64)).unwrap()];
    [&header[..], content, &zeros].concat()
}

fn good(name: &str, content: &[u8]) -> Vec<u8> {
    raw(&header(name, content.len() as u64).unwrap(), content)
}

/// The header of a good file with some bytes changed, and a checksum that fits.
fn bent(name: &str, size_bytes: u64, at: usize, bytes: &[u8]) -> [u8; BLOCK_BYTES] {
    let mut block = header(name, size_bytes).unwrap();
    block[at..at + bytes.len()].copy_from_slice(bytes);
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

fn ended(parts: &[Vec<u8>]) -> Vec<u8> {
    [&parts.concat()[..], &[0; 2 * BLOCK_BYTES]].concat()
}

/// What it is, and its bytes.
fn cases() -> Vec<(String, Vec<u8>)> {
    let timestamp = || good(TIMESTAMP, b"{}");
    let behind = |block: [u8; BLOCK_BYTES], content: &[u8]| ended(&[timestamp(), raw(&block, content)]);
    let mut cases: Vec<(String, Vec<u8>)> = Vec::new();
    // POSIX ustar, pax and GNU: the kind of an entry.
    for (flag, what) in [
        (b'1', "a hard link"),
        (b'2', "a symbolic link"),
        (b'3', "a character device"),
        (b'4', "a block device"),
        (b'5', "a directory"),
        (b'6', "a pipe"),
        (b'7', "a contiguous file"),
        (b'x', "a pax header"),
        (b'g', "a pax header for all"),
        (b'X', "a Solaris header"),
        (b'L', "a GNU long name"),
        (b'K', "a GNU long link"),
        (b'S', "a GNU sparse file"),
        (b'M', "the rest of a file of another volume"),
        (b'D', "a GNU directory with names"),
        (b'V', "a GNU volume label"),
        (b'\0', "an old-style file"),
        (b'Z', "a kind that nobody knows"),
    ] {
        cases.push((what.to_owned(), behind(bent("x", 20, 156, &[flag]), b"20 path=../../evil\n\n")));
    }
    for (what, at, bytes) in [
        ("a setuid mode", 100, &b"0004755\0"[..]),
        ("a setgid mode", 100, b"0002755\0"),
        ("a sticky mode", 100, b"0001777\0"),
        ("an executable mode", 100, b"0000755\0"),
        ("a mode of blanks", 100, b"        "),
        ("an owner", 108, b"0001750\0"),
        ("a group", 116, b"0001750\0"),
        ("a name of the owner", 265, b"root\0"),
        ("a name of the group", 297, b"wheel\0"),
        ("a time", 136, b"14711132000\0"),
        ("a size in base 256", 124, b"\x80\0\0\0\0\0\0\0\0\0\0\x14"),
        ("a size that is negative", 124, b"-0000000024\0"),
        ("a size with blanks", 124, b"         24 \0"[..12].as_ref()),
        ("a size without octal digits", 124, b"00000000089\0"),
        ("a size that ends in a blank", 124, b"00000000024 "),
        ("a target of a link", 157, b"/etc/passwd"),
        ("a device number", 329, b"0000001\0"),
        ("the GNU magic", 257, b"ustar  \0"),
        ("no magic", 257, b"\0\0\0\0\0\0\0\0"),
        ("something behind the name", 10, b"hidden"),
        ("something behind the last field", 500, b"hidden"),
        ("a name that is not ASCII", 0, b"\xc3\xa4"),
        ("a name that begins with a NUL", 0, b"\0x"),
        ("a prefix that is not needed", 345, b"dir"),
    ] {
        cases.push((what.to_owned(), behind(bent("x", 20, at, bytes), &[b'x'; 20])));
    }
    let mut wrong = header("x", 0).unwrap();
    wrong[150] ^= 1;
    cases.push(("a wrong checksum".to_owned(), behind(wrong, b"")));
    let huge = header("x", 0o77_777_777_777).unwrap();
    cases.extend([
        ("nothing".to_owned(), Vec::new()),
        ("zeros alone".to_owned(), vec![0; 2 * BLOCK_BYTES]),
        ("zeros without end".to_owned(), vec![0; 64 * BLOCK_BYTES]),
        ("no end".to_owned(), timestamp()),
        ("half an end".to_owned(), [timestamp(), vec![0; BLOCK_BYTES]].concat()),
        ("something behind the end".to_owned(), [ended(&[timestamp()]), timestamp()].concat()),
        ("zeros behind the end".to_owned(), [ended(&[timestamp()]), vec![0; BLOCK_BYTES]].concat()),
        ("two bundles".to_owned(), [ended(&[timestamp()]), ended(&[timestamp()])].concat()),
        ("8 GiB that are not there".to_owned(), behind(huge, b"few")),
        ("something in the padding".to_owned(), {
            let mut bytes = ended(&[timestamp(), good("x", b"")]);
            bytes[2 * BLOCK_BYTES - 1] = 1;
            bytes
        }),
        ("the timestamp twice".to_owned(), ended(&[timestamp(), timestamp()])),
        ("no timestamp".to_owned(), ended(&[good("metadata/root.json", b"{}")])),
        ("a timestamp by a detour".to_owned(), ended(&[good("./metadata/timestamp.json", b"{}")])),
        ("a timestamp at the root".to_owned(), ended(&[good("/metadata/timestamp.json", b"{}")])),
        ("a timestamp through the parent".to_owned(), ended(&[good("x/../metadata/timestamp.json", b"{}")])),
        ("too many files".to_owned(), many(4_097)),
        ("gzip".to_owned(), b"\x1f\x8b\x08\0\0\0\0\0\0\x03".repeat(60)),
        ("zip".to_owned(), b"PK\x03\x04".repeat(200)),
        ("text".to_owned(), b"not a bundle\n".repeat(100)),
    ]);
    cases
}

fn many(count: usize) -> Vec<u8> {
    let files: Vec<Vec<u8>> = (1..count).map(|n| good(&format!("blobs/{n}"), b"")).collect();
    ended(&[good(TIMESTAMP, b"{}"), files.concat()])
}

#[tokio::test]
async fn no_hostile_bundle_is_opened() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bundle");
    let cases = cases();
    let mut opened = Vec::new();
    for (name, bytes) in &cases {
        std::fs::write(&path, bytes).unwrap();
        match Road::open(&Place::Path(path.clone()), &Clock::new(0)) {
            Err(error @ RoadError::NotABundle { .. }) => {
                let failure = InstallFailure::from(error);
                let InstallFailure::Refused(reason) = failure else { panic!("{name}: {failure}") };
                assert_eq!(reason.code, RefusalCode::Unverified, "{name}");
            }
            other => opened.push(format!("{name}: {:?}", other.map(|road| road.claims()))),
        }
    }
    assert!(opened.is_empty(), "{}", opened.join("\n"));
    println!("{} hostile bundles, 0 opened", cases.len());
}

#[tokio::test]
async fn names_that_climb_are_never_used_as_paths() {
    let world = World::new().await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bundle");
    let climbing = ["../../escaped", "/tmp/escaped", "targets/../../escaped", "blobs/..", "metadata/../escaped"];
    let files: Vec<Vec<u8>> = climbing.iter().map(|name| good(name, b"evil")).collect();
    std::fs::write(&path, ended(&[good(TIMESTAMP, b"{}"), files.concat()])).unwrap();
    let road = Road::open(&Place::Path(path), &Clock::new(0)).unwrap();
    assert_eq!(road.claims(), []);
    let failure = world.installer(0).bring(&road, &app(), &"1.1.0".parse().unwrap()).await.unwrap_err();
    assert!(matches!(failure, InstallFailure::Refused(reason) if reason.code == RefusalCode::Unverified));
    let names: Vec<_> = std::fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["bundle"]);
}
