//! What cannot become an image of a node: said clearly, before anything is written, and the stock image is as it was.

use std::os::unix::fs::{FileExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::bench::{ARM64, Bench, Layout, ROOT_BYTES, X86, command, program, run, token};

/// Where the root file system of [`Layout::Pi`] begins.
const ROOT_AT: u64 = 34_816 * 512;

/// A stock image, and what is said with every wish.
struct Asked {
    bench: Bench,
    stock: PathBuf,
    words: Vec<String>,
}

impl Asked {
    fn new() -> Option<Self> {
        let bench = Bench::new()?;
        let stock = bench.stock("pi.img", Layout::Pi);
        let out = bench.path("out.img").to_str().unwrap().to_owned();
        let words = ["--out", &out, "--name", "attic", "--invite", &token()].map(str::to_owned).to_vec();
        Some(Self { bench, stock, words })
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.bench.path(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// A copy of the stock image with `bytes` at `offset`.
    fn changed(&self, name: &str, offset: u64, bytes: &[u8]) -> PathBuf {
        let path = self.bench.path(name);
        std::fs::copy(&self.stock, &path).unwrap();
        std::fs::File::options().write(true).open(&path).unwrap().write_all_at(bytes, offset).unwrap();
        path
    }

    #[track_caller]
    fn refused(&self, stock: &Path, more: &[&str], expected: &str) {
        let words: Vec<&str> = self.words.iter().map(String::as_str).chain(more.iter().copied()).collect();
        self.bench.refused(stock, &words, expected);
    }

    /// The same without asking for a checksum.
    #[track_caller]
    fn unchecked(&self, stock: &Path, expected: &str) {
        self.refused(stock, &["--unchecked"], expected);
    }
}

#[test]
fn an_image_that_is_not_what_its_vendor_published_is_refused() {
    let Some(asked) = Asked::new() else { return };
    asked.refused(&asked.bench.path("none.img"), &[], "cannot read");
    asked.refused(&asked.stock, &["--checksum", &"0".repeat(64)], "is not what its vendor published");
    asked.refused(&asked.write("unknown.img", b"x"), &[], "there is no checksum for");
    let other = asked.write("others.sha256", format!("{}  other.img\n", "0".repeat(64)).as_bytes());
    asked.refused(&asked.stock, &["--checksum", other.to_str().unwrap()], "it has no SHA-256 of pi.img");

    // One bit, of all the image; its vendor's file is beside it.
    let torn = asked.changed("torn.img", ROOT_AT + 4_096, b"\x01");
    let sum = std::fs::read_to_string(asked.bench.path("pi.img.sha256")).unwrap().replace("pi.img", "torn.img");
    asked.write("torn.img.sha256", sum.as_bytes());
    asked.refused(&torn, &[], "download it again");
}

#[test]
fn an_image_that_is_packed_wrongly_is_refused() {
    let Some(asked) = Asked::new() else { return };
    asked.unchecked(&asked.write("empty.img", b""), "it is empty");
    asked.unchecked(&asked.write("archive.zip", b"PK\x03\x04more"), "unpack it and name the image in it");
    asked.unchecked(&asked.write("archive.7z", b"7z\xbc\xaf\x27\x1c"), "unpack it and name the image in it");
    asked.unchecked(&asked.write("image.bz2", b"BZh91AY"), "unpack it and name the image in it");
    asked.unchecked(&asked.write("noise.img.xz", b"\xfd7zXZ\0torn"), "cannot be used");
    asked.unchecked(&asked.write("noise.img.gz", b"\x1f\x8btorn"), "it does not unpack");

    // Noise, which no packer makes smaller, so that most of the file is content.
    let small = asked.bench.path("small.img");
    std::fs::write(
        &small,
        (0..200_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect::<Vec<_>>(),
    )
    .unwrap();
    for (program, ending) in [("xz", "xz"), ("gzip", "gz")] {
        run(command(program).arg("-k").arg(&small));
        let packed = std::fs::read(asked.bench.path(&format!("small.img.{ending}"))).unwrap();
        let half = asked.write(&format!("half.img.{ending}"), &packed[..packed.len() / 2]);
        asked.unchecked(&half, &format!("{} cannot be used", half.display()));
        let mut damaged = packed.clone();
        damaged[packed.len() / 2] ^= 0x40;
        let damaged = asked.write(&format!("damaged.img.{ending}"), &damaged);
        asked.unchecked(&damaged, "it does not unpack");
        // Whole, and no image.
        let whole = asked.bench.path(&format!("small.img.{ending}"));
        asked.unchecked(&whole, "has no partition that can be used");
    }
}

#[test]
fn an_image_whose_layout_is_not_known_is_refused() {
    let Some(asked) = Asked::new() else { return };
    asked.unchecked(
        &asked.write("noise.img", &vec![7; 100_000]),
        "has no partition that can be used: no partition table",
    );
    // Its root is none of ext4: of btrfs, encrypted, or blank.
    asked.unchecked(&asked.changed("blank.img", ROOT_AT, &[0; 4096]), "FAT, something else");

    let data = asked.bench.path("data.img");
    std::fs::copy(&asked.stock, &data).unwrap();
    let within = format!("{}?offset={ROOT_AT}", data.display());
    run(command("debugfs").args(["-w", "-R", "rm /etc/os-release"]).arg(&within));
    asked.unchecked(&data, "FAT, ext4; images of Armbian");

    let bare = asked.bench.path("bare.img");
    run(command("truncate").args(["--size", "4M"]).arg(&bare));
    asked.unchecked(&bare, "no partition table");
    let script = asked.write("table", b"label: dos\n");
    let mut sfdisk = command("sfdisk");
    run(sfdisk.arg("-q").arg(&bare).stdin(std::fs::File::open(script).unwrap()));
    asked.unchecked(&bare, "no partitions");
}

#[test]
fn an_agent_that_does_not_run_there_or_does_not_fit_is_refused() {
    let Some(asked) = Asked::new() else { return };
    asked.write("agent", &program(X86));
    asked.refused(&asked.stock, &[], "is for x86-64, and the image for arm64");
    asked.write("agent", b"#!/bin/sh\n");
    asked.refused(&asked.stock, &[], "and the image for arm64");
    let mut large = program(ARM64);
    large.resize(usize::try_from(ROOT_BYTES).unwrap(), 1);
    asked.write("agent", &large);
    asked.refused(&asked.stock, &[], "let it grow with --grow");
}

#[test]
fn no_invite_or_one_that_is_none_is_refused() {
    let Some(asked) = Asked::new() else { return };
    let out = asked.bench.path("out.img");
    let without = ["--out", out.to_str().unwrap(), "--name", "attic"];
    asked.bench.refused(&asked.stock, &without, "bring one with --invite");
    let cut = token();
    for (invite, expected) in [
        // What a shell gives for a command that has failed.
        ("", "this is not an invite token"),
        ("attic", "this is not an invite token"),
        (&cut[..cut.len() - 9], "damaged or cut short"),
    ] {
        asked.bench.refused(&asked.stock, &[&without[..], &["--invite", invite]].concat(), expected);
    }
}

#[test]
fn keys_and_networks_that_cannot_be_are_refused() {
    let Some(asked) = Asked::new() else { return };
    let private = asked.write("key", b"-----BEGIN OPENSSH PRIVATE KEY-----\n");
    asked.refused(&asked.stock, &["--ssh-key", private.to_str().unwrap()], "private key");
    let short = asked.write("short", b"1234567\n");
    asked.refused(&asked.stock, &["--wifi", "x", "--wifi-passphrase-file", short.to_str().unwrap()], "8 to 63");
}

#[test]
fn the_stock_image_is_never_written_over() {
    let Some(asked) = Asked::new() else { return };
    let before = run(command("sha256sum").arg(&asked.stock));
    let stock = asked.stock.to_str().unwrap();
    let invite = token();
    asked.bench.refused(
        &asked.stock,
        &["--out", stock, "--force", "--name", "attic", "--invite", &invite],
        "is the stock image",
    );
    let alias = asked.bench.path("alias.img");
    symlink(&asked.stock, &alias).unwrap();
    let words = ["--out", alias.to_str().unwrap(), "--force", "--name", "attic", "--invite", &invite];
    asked.bench.refused(&asked.stock, &words, "is the stock image");
    let place = asked.bench.path("").to_str().unwrap().to_owned();
    let many = ["--out", &place, "--count", "1", "--name-prefix", "node-", "--force", "--invite", &invite];
    let first = asked.bench.path("node-1.img");
    std::fs::rename(&asked.stock, &first).unwrap();
    asked.bench.refused(&first, &[&many[..], &["--unchecked"]].concat(), "is the stock image");
    std::fs::rename(&first, &asked.stock).unwrap();
    assert_eq!(run(command("sha256sum").arg(&asked.stock)), before);
}

#[test]
fn where_there_is_no_space_nothing_is_begun() {
    let Some(asked) = Asked::new() else { return };
    // As large as files can be, and nothing in it.
    let vast = asked.bench.path("vast.img");
    std::fs::File::create(&vast).unwrap().set_len(8 << 40).unwrap();
    asked.unchecked(&vast, "are free there");
    // One would fit, a thousand gigabytes more would not, and neither would a hundred of them.
    asked.refused(&asked.stock, &["--grow", "1024G"], "are free there");
    let nodes = asked.bench.path("nodes");
    let many = ["--out", nodes.to_str().unwrap(), "--count", "100", "--name-prefix", "node-", "--grow", "64G"];
    asked.bench.refused(&asked.stock, &[&many[..], &["--invite", &token()]].concat(), "are free there");
}

#[test]
fn a_disk_that_is_full_in_the_middle_is_said_and_nothing_is_left() {
    let Some(asked) = Asked::new() else { return };
    // Of gzip it is not known before how much it unpacks to.
    let noise: Vec<u8> = (0..8_000_000_u32).flat_map(|n| (n / 64).wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let plain = asked.write("large.img", &noise);
    run(command("gzip").arg("-1").arg(&plain));
    // A small disk in a mount namespace, which everybody may make where user namespaces are allowed.
    let inside = |script: &str| {
        let mut unshare = Command::new("unshare");
        unshare.args(["--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"]).arg(asked.bench.path("home"));
        unshare
            .arg(env!("CARGO_BIN_EXE_orangery"))
            .arg(asked.bench.path("large.img.gz"))
            .arg(asked.bench.path("agent"));
        unshare.arg(token()).output().unwrap()
    };
    std::fs::create_dir(asked.bench.path("home")).unwrap();
    let mount = "mount -t tmpfs -o size=20m tmpfs \"$1\"";
    let possible = inside(mount);
    if !possible.status.success() {
        assert!(std::env::var_os("CI").is_none(), "no user namespaces here: {possible:?}");
        eprintln!("LEFT OUT: no user namespaces here: {}", String::from_utf8_lossy(&possible.stderr));
        return;
    }
    let script = format!(
        "{mount} && \"$2\" image customize \"$3\" --unchecked --agent \"$4\" --invite \"$5\" --name attic --out \"$1/out.img\"; \
         echo \"code $?\"; ls -A \"$1\""
    );
    let output = inside(&script);
    let (said, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(said, "code 1\n", "nothing is left: {complained}");
    assert!(complained.contains("cannot write") && complained.contains("No space left"), "{complained}");
}
