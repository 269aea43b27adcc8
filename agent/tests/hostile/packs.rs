//! Packs that are not what their manifest says: bombs, cut frames, frames behind frames, other formats.

use std::io::{Read, Write};

use serde_json::json;

use super::{APP, Cases, Draft, zstd};
use crate::origin::sha256;

const SKIPPABLE: [u8; 9] = [0x50, 0x2a, 0x4d, 0x18, 1, 0, 0, 0, 0];

pub fn add(cases: &mut Cases) {
    frames(cases);
    foreign(cases);
    plain(cases);
    contents(cases);
    bombs(cases);
}

/// Zstandard, but not one frame and no more.
fn frames(cases: &mut Cases) {
    let good = zstd(APP);
    let with = |pack: Vec<u8>| Draft::new().packed(pack);
    let (ends, goes_on) = ("unpacking", "goes on");
    for cut in 0..good.len() {
        cases.unverified(format!("a frame cut at byte {cut}"), ends, with(good[..cut].to_vec()));
    }
    let rows: Vec<(&str, &'static str, Vec<u8>)> = vec![
        ("one byte behind the frame", goes_on, [&good[..], &[0]].concat()),
        ("a second frame", goes_on, [&good[..], &zstd(b"evil")].concat()),
        ("the frame twice", goes_on, [&good[..], &good].concat()),
        ("an empty second frame", goes_on, [&good[..], &zstd(b"")].concat()),
        ("a skippable frame behind", goes_on, [&good[..], &SKIPPABLE].concat()),
        ("a skippable frame before", ends, [&SKIPPABLE[..], &good].concat()),
        ("an empty frame before", ends, [&zstd(b"")[..], &good].concat()),
        ("a skippable frame alone", ends, SKIPPABLE.to_vec()),
        ("a frame of the reserved kind", ends, [&good[..4], &[good[4] | 0x08], &good[5..]].concat()),
        ("a frame that wants a dictionary", ends, [&good[..4], &[good[4] | 0x01, 7], &good[5..]].concat()),
        ("a frame of the wrong magic", ends, [&[0x27], &good[1..]].concat()),
        ("a frame with a wrong checksum", ends, wrong_checksum()),
        ("a window of 16 MiB", ends, window(24)),
        ("a window of 128 MiB", ends, window(27)),
        ("a window of 4 GiB", ends, [&good[..4], &[0x00, 0xb0], &good[6..]].concat()),
        ("a window of 3.75 TiB", ends, [&good[..4], &[0x00, 0xff], &good[6..]].concat()),
    ];
    for (name, why, pack) in rows {
        cases.unverified(name, why, with(pack));
    }
}

fn wrong_checksum() -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(Vec::new(), 3).unwrap();
    encoder.include_checksum(true).unwrap();
    encoder.write_all(APP).unwrap();
    let mut pack = encoder.finish().unwrap();
    *pack.last_mut().unwrap() ^= 1;
    pack
}

fn window(log: u32) -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(Vec::new(), 3).unwrap();
    encoder.window_log(log).unwrap();
    encoder.write_all(APP).unwrap();
    encoder.finish().unwrap()
}

/// Other formats, by their first bytes.
fn foreign(cases: &mut Cases) {
    let formats: [(&str, &[u8]); 12] = [
        ("nothing", b""),
        ("the file itself", APP),
        ("zeros", &[0; 1024]),
        ("gzip", b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\x03\x00\x00\x00\x00\x00\x00\x00\x00\x00"),
        ("xz", b"\xfd7zXZ\x00\x00\x04\xe6\xd6\xb4\x46\x00\x00\x00\x00\x1c\xdf\x44\x21"),
        ("bzip2", b"BZh9\x17\x72\x45\x38\x50\x90\x00\x00\x00\x00"),
        ("lz4", b"\x04\x22\x4d\x18\x64\x40\xa7\x00\x00\x00\x00\x05\x5d\xcc\x02"),
        ("zip", b"PK\x05\x06\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"),
        ("ar", b"!<arch>\n"),
        ("cpio", b"070701"),
        ("squashfs", b"hsqs\0\0\0\0"),
        ("an old zstd", b"\x24\xb5\x2f\xfd\x00\x00\x00\x00"),
    ];
    for (name, pack) in formats {
        cases.unverified(format!("a pack that is {name}"), "unpacking", Draft::new().packed(pack.to_vec()));
    }
    let escaping = orangery_wire::container::header("../../x", 4).unwrap();
    let tar = [&escaping[..], b"evil", &[0; 508], &[0; 1024]].concat();
    cases.unverified("a pack that is tar and climbs", "unpacking", Draft::new().packed(tar.clone()));
    cases.unverified("a pack that is tar in zstd", "unpacking", Draft::new().packed(zstd(&tar)));
}

/// Without compression.
fn plain(cases: &mut Cases) {
    let with = |pack: &[u8]| Draft::new().packed(pack.to_vec()).tree(|tree| tree["pack"]["encoding"] = json!("none"));
    cases.unverified("a plain pack that is a byte short", "ends before", with(&APP[1..]));
    cases.unverified("a plain pack that is a byte long", "goes on", with(&[APP, b"x"].concat()));
    cases.unverified("a plain pack of other bytes", "digest", with(b"#!/bin/SH\n"));
    cases.unverified("a plain pack that is compressed", "unpacking", with(&zstd(APP)));
}

/// A sound frame with other contents than were signed.
fn contents(cases: &mut Cases) {
    let with = |content: &[u8]| Draft::new().packed(zstd(content));
    cases.unverified("contents of other bytes", "digest", with(b"#!/bin/SH\n"));
    cases.unverified("contents a byte short", "ends before", with(&APP[1..]));
    cases.unverified("contents a byte long", "goes on", with(&[APP, b"x"].concat()));
    cases.unverified("contents with a file too many", "goes on", with(&[APP, b"another file"].concat()));
    let two = || Draft::new().with_file("e", b"first").with_file("f", b"other");
    cases.unverified("two files swapped", "digest", two().packed(zstd(&[APP, b"other", b"first"].concat())));
    let moved = two().tree(|tree| {
        tree["entries"][2]["file"]["size_bytes"] = json!(4);
        tree["entries"][3]["file"]["size_bytes"] = json!(6);
    });
    cases.unverified("a byte moved from one file to the next", "digest", moved);
    let wrong = Draft::new().tree(|tree| tree["entries"][0]["file"]["digest"] = json!(sha256(b"other")));
    cases.unverified("a file's digest that lies", "digest", wrong);
    let longer = |by: u64| {
        Draft::new().tree(move |tree| {
            tree["entries"][0]["file"]["size_bytes"] = json!(10 + by);
            tree["size_bytes"] = json!(10 + by);
        })
    };
    cases.unverified("a file said to be a byte longer", "ends before", longer(1));
    cases.unverified("a file said to have 16 MiB", "ends before", longer(16 << 20));
    let of_pack = |size: i64| {
        Draft::new().tree(move |tree| {
            let is = tree["pack"]["size_bytes"].as_i64().unwrap();
            tree["pack"]["size_bytes"] = json!(is + size);
        })
    };
    cases.unverified("a pack said to be a byte longer", "were signed", of_pack(1));
    cases.unverified("a pack said to be a byte shorter", "were signed", of_pack(-1));
    let other = Draft::new().tree(|tree| tree["pack"]["digest"] = json!(sha256(b"other")));
    cases.unverified("a pack whose digest lies", "not what was signed", other);
}

/// Few bytes that become many.
fn bombs(cases: &mut Cases) {
    let zeros = |count: u64| zstd::encode_all(std::io::repeat(0).take(count), 3).unwrap();
    let bomb = zeros(64 << 20);
    assert!(bomb.len() < 40_000, "{}", bomb.len());
    cases.unverified("64 MiB of zeros in the place of ten bytes", "digest", Draft::new().packed(bomb.clone()));
    let behind = [zstd(APP), bomb.clone()].concat();
    cases.unverified("64 MiB of zeros behind the frame", "goes on", Draft::new().packed(behind));
    let nested = zstd(&bomb);
    cases.unverified("a bomb in a bomb", "digest", Draft::new().packed(nested));
    let mut after = zstd::Encoder::new(Vec::new(), 3).unwrap();
    after.write_all(APP).unwrap();
    std::io::copy(&mut std::io::repeat(0).take(64 << 20), &mut after).unwrap();
    let after = after.finish().unwrap();
    cases.unverified("64 MiB of zeros behind the last file", "goes on", Draft::new().packed(after));
    let (content, digest) = (zeros(64 << 20), sha256(b""));
    let honest = Draft::new().packed(content).tree(move |tree| {
        tree["entries"][0]["file"] =
            json!({ "path": "app", "digest": digest, "size_bytes": 64 << 20, "executable": true });
        tree["size_bytes"] = json!(64 << 20);
    });
    cases.invalid("a bomb that says what it is", "grow too much", honest);
}
