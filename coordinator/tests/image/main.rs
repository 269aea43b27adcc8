//! Stock images become images of nodes: real partition tables and file systems, made and judged by the tools of those who
//! maintain them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use orangery_wire::Digest;
use orangery_wire::container::{BLOCK_BYTES, header};
use orangery_wire::token::Token;

/// An invite token as `orangery node invite` prints it; nobody asks here whether it counts.
const TOKEN: &str = "orangery1.of-a-test";
const ROOT_BYTES: u64 = 48 << 20;

/// How a stock image is laid out.
#[derive(Clone, Copy)]
enum Layout {
    /// As Raspberry Pi OS: MBR, FAT mounted at /boot/firmware, ext4.
    Pi,
    /// As Armbian: GPT, one ext4.
    Armbian,
}

struct Bench {
    place: tempfile::TempDir,
}

fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env("PATH", format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap())).env("MTOOLS_SKIP_CHECK", "1");
    command
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|e| {
        panic!("{command:?}: {e}; install: apt-get install e2fsprogs fdisk mtools dosfstools xz-utils")
    });
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The first bytes of a program for `machine`.
fn program(machine: u8) -> Vec<u8> {
    let mut bytes = b"\x7fELF\x02\x01\x01".to_vec();
    bytes.resize(5_000, b'x');
    bytes[18..20].copy_from_slice(&[machine, 0]);
    bytes
}

const ARM64: u8 = 0xb7;
const X86: u8 = 0x3e;

/// Without one of these nothing can be tested: that is said, and in CI it fails.
fn has_tools() -> bool {
    let found =
        |name: &&str| ["/usr/sbin", "/sbin", "/usr/bin", "/bin"].iter().any(|at| Path::new(at).join(name).exists());
    let all = ["debugfs", "mke2fs", "sfdisk", "mcopy", "mkfs.vfat", "xz"];
    let Some(missing) = all.iter().find(|name| !found(name)) else { return true };
    assert!(std::env::var_os("CI").is_none(), "{missing} is not installed, and CI must test with it");
    eprintln!("LEFT OUT: {missing} is missing (apt-get install e2fsprogs fdisk mtools dosfstools xz-utils)");
    false
}

impl Bench {
    /// `None` if the tools are missing.
    fn new() -> Option<Self> {
        if !has_tools() {
            return None;
        }
        let bench = Self { place: tempfile::tempdir().unwrap() };
        std::fs::write(bench.path("agent"), program(ARM64)).unwrap();
        Some(bench)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    /// A stock image with a small system in it.
    fn stock(&self, name: &str, layout: Layout) -> PathBuf {
        let tree = self.path(&format!("{name}.tree"));
        let put = |path: &str, bytes: &[u8]| {
            let path = tree.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        };
        put("etc/os-release", b"ID=debian\n");
        put("etc/hosts", b"127.0.0.1\tlocalhost\n127.0.1.1\traspberrypi\n");
        put("etc/machine-id", b"0123456789abcdef0123456789abcdef\n");
        put("etc/ssh/ssh_host_ed25519_key", b"the same on every card\n");
        put("etc/ssh/sshd_config", b"# as it was\n");
        put("usr/lib/systemd/systemd", &program(ARM64));
        put("usr/lib/systemd/system/ssh.service", b"[Service]\nExecStart=/usr/sbin/sshd\n");
        put("usr/sbin/NetworkManager", &program(ARM64));
        put("boot/readme", b"\n");
        let image = self.path(name);
        std::fs::File::create(&image).unwrap().set_len(72 << 20).unwrap();
        let (table, offset) = match layout {
            Layout::Pi => {
                put(
                    "etc/fstab",
                    b"PARTUUID=1-01 /boot/firmware vfat defaults 0 2\nPARTUUID=1-02 / ext4 defaults 0 1\n",
                );
                let mut fat = command("mkfs.vfat");
                run(fat.args(["--offset", "2048"]).arg(&image).arg("16384"));
                ("label: dos\nstart=2048,size=32768,type=c\nstart=34816,type=83\n", 34_816 * 512)
            }
            Layout::Armbian => ("label: gpt\nstart=8192\n", 8_192 * 512),
        };
        let mut sfdisk = command("sfdisk");
        let script = self.path("table");
        std::fs::write(&script, table).unwrap();
        run(sfdisk
            .args(["-q", "--no-reread", "--wipe", "never"])
            .arg(&image)
            .stdin(std::fs::File::open(script).unwrap()));
        let mut ext4 = command("mke2fs");
        ext4.args(["-q", "-F", "-t", "ext4", "-b", "4096", "-d"]).arg(&tree).arg("-E").arg(format!("offset={offset}"));
        run(ext4.arg(&image).arg((ROOT_BYTES / 4096).to_string()));
        let sum = run(command("sha256sum").arg(&image));
        std::fs::write(self.path(&format!("{name}.sha256")), sum).unwrap();
        image
    }

    fn customize(&self, stock: &Path, words: &[&str]) -> Output {
        let agent = self.path("agent");
        self.customize_as_it_is(stock, &[&["--agent", agent.to_str().unwrap()], words].concat())
    }

    fn customize_as_it_is(&self, stock: &Path, words: &[&str]) -> Output {
        let mut orangery = Command::new(env!("CARGO_BIN_EXE_orangery"));
        orangery.arg("--dir").arg(self.path("home")).args(["image", "customize"]).arg(stock);
        orangery.args(words).env("NO_COLOR", "1").output().unwrap()
    }

    fn made(&self, stock: &Path, words: &[&str]) -> String {
        let output = self.customize(stock, words);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Must fail, saying `expected`, and leave nothing.
    #[track_caller]
    fn refused(&self, stock: &Path, words: &[&str], expected: &str) {
        let before = self.listing();
        let output = self.customize(stock, words);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && text.contains(expected), "{expected:?} in {text:?}");
        assert_eq!(self.listing(), before, "nothing is left");
    }

    fn listing(&self) -> Vec<PathBuf> {
        let mut names: Vec<_> = std::fs::read_dir(self.place.path()).unwrap().map(|e| e.unwrap().path()).collect();
        names.sort();
        names
    }
}

/// An image that was made, and where its root file system lies.
struct Image<'a> {
    path: &'a Path,
    offset: u64,
}

impl Image<'_> {
    fn debugfs(&self, request: &str) -> String {
        run(command("debugfs").args(["-R", request]).arg(format!("{}?offset={}", self.path.display(), self.offset)))
    }

    fn cat(&self, path: &str) -> String {
        self.debugfs(&format!("cat {path}"))
    }

    fn is_sound(&self) {
        run(command("e2fsck").args(["-f", "-n"]).arg(format!("{}?offset={}", self.path.display(), self.offset)));
    }
}

#[test]
fn an_image_of_raspberry_pi_os_becomes_one_of_a_node() {
    let Some(bench) = Bench::new() else { return };
    let stock = bench.stock("pi.img", Layout::Pi);
    let before = run(command("sha256sum").arg(&stock));
    let (key, secret) = (bench.path("key.pub"), bench.path("passphrase"));
    std::fs::write(&key, "ssh-ed25519 AAAA me@laptop\n").unwrap();
    std::fs::write(&secret, "correct horse\n").unwrap();
    let out = bench.path("attic.img");
    let said = bench.made(
        &stock,
        &[
            "--out",
            out.to_str().unwrap(),
            "--name",
            "attic",
            "--invite",
            TOKEN,
            "--label",
            "site=attic",
            "--wifi",
            "At home",
            "--wifi-passphrase-file",
            secret.to_str().unwrap(),
            "--wifi-country",
            "de",
            "--ssh-key",
            key.to_str().unwrap(),
        ],
    );
    assert!(
        said.contains("wrote    /usr/bin/orangery-agent") && said.contains("boot partition: orangery.toml"),
        "{said}"
    );
    assert!(!said.contains(TOKEN) && !said.contains("horse"), "no secrets are printed: {said}");

    let image = Image { path: &out, offset: 34_816 * 512 };
    image.is_sound();
    assert!(
        image.cat("/usr/lib/systemd/system/orangery-agent.service").contains("ExecStart=/usr/bin/orangery-agent run")
    );
    assert!(
        image.debugfs("stat /etc/systemd/system/multi-user.target.wants/orangery-agent.service").contains("symlink")
    );
    let agent = image.debugfs("stat /usr/bin/orangery-agent");
    assert!(agent.contains("Mode:  0755") && agent.contains("User:     0") && agent.contains("Size: 5000"), "{agent}");
    assert_eq!(image.cat("/etc/hostname"), "attic\n");
    assert_eq!(image.cat("/etc/hosts"), "127.0.0.1\tlocalhost\n127.0.1.1\tattic\n");
    assert_eq!(image.cat("/etc/machine-id"), "");
    assert!(!image.debugfs("ls /etc/ssh").contains("ssh_host_"), "host keys are of the board's own making");
    assert_eq!(image.cat("/etc/ssh/sshd_config"), "# as it was\n");
    assert_eq!(image.cat("/root/.ssh/authorized_keys"), "ssh-ed25519 AAAA me@laptop\n");
    assert!(image.debugfs("stat /root/.ssh").contains("Mode:  0700"));
    let network = image.cat("/etc/NetworkManager/system-connections/orangery.nmconnection");
    assert!(network.contains("ssid=At\\shome\n") && network.contains("psk=correct\\shorse\n"), "{network}");
    assert!(image.cat("/etc/modprobe.d/orangery-wifi.conf").contains("regdom=DE"));
    assert!(image.cat("/etc/orangery/agent.d/20-image.toml").contains("[labels]\nsite = \"attic\""));
    let enrolment = run(command("mtype").arg("-i").arg(format!("{}@@1M", out.display())).arg("::/orangery.toml"));
    assert!(enrolment.contains(&format!("token = \"{TOKEN}\"\nname = \"attic\"")), "{enrolment}");
    assert!(image.cat("/boot/orangery.toml").is_empty());
    assert_eq!(run(command("sha256sum").arg(&stock)), before, "the stock image is as it was");
}

#[test]
fn one_packed_image_of_armbian_becomes_several_nodes_that_can_grow() {
    let Some(bench) = Bench::new() else { return };
    let stock = bench.stock("armbian.img", Layout::Armbian);
    run(command("xz").args(["-0", "-k"]).arg(&stock));
    let packed = bench.path("armbian.img.xz");
    std::fs::write(bench.path("armbian.img.xz.sha"), run(command("sha256sum").arg(&packed))).unwrap();
    let out = bench.path("nodes");
    let words =
        ["--out", out.to_str().unwrap(), "--count", "2", "--name-prefix", "attic-", "--invite", TOKEN, "--json"];
    let said = bench.made(&packed, &[&words[..], &["--grow", "32M"]].concat());
    for (number, line) in said.lines().enumerate() {
        let name = format!("attic-{}", number + 1);
        let made: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!((made["node"].as_str(), made["enrolment"].as_str()), (Some(&*name), Some("/boot/orangery.toml")));
        assert!(made["free_bytes"].as_u64().unwrap() > ROOT_BYTES, "it has grown: {made}");
        let path = out.join(format!("{name}.img"));
        let image = Image { path: &path, offset: 8_192 * 512 };
        image.is_sound();
        run(command("sfdisk").arg("--verify").arg(&path));
        assert_eq!(image.cat("/etc/hostname"), format!("{name}\n"));
        assert!(image.cat("/boot/orangery.toml").contains(&format!("name = \"{name}\"")));
        assert!(image.debugfs("stat /boot/orangery.toml").contains("Mode:  0600"));
    }
    assert_eq!(said.lines().count(), 2);
    bench.refused(&packed, &words, "is there already");
}

#[test]
fn what_cannot_become_an_image_is_refused_before_anything_is_written() {
    let Some(bench) = Bench::new() else { return };
    let stock = bench.stock("pi.img", Layout::Pi);
    let out = bench.path("out.img");
    let words = ["--out", out.to_str().unwrap(), "--name", "attic", "--invite", TOKEN];
    let with = |more: &[&'static str]| [&words[..], more].concat();

    let wrong = "0".repeat(64);
    bench.refused(&stock, &[&words[..], &["--checksum", &wrong]].concat(), "is not what its vendor published");
    bench.refused(&bench.path("none.img"), &words, "cannot read");
    let write = |name: &str, bytes: &[u8]| {
        std::fs::write(bench.path(name), bytes).unwrap();
        bench.path(name)
    };
    bench.refused(&write("unknown.img", b"x"), &words, "there is no checksum for");
    bench.refused(&write("empty.img", b""), &with(&["--unchecked"]), "it is empty");
    bench.refused(
        &write("archive.zip", b"PK\x03\x04more"),
        &with(&["--unchecked"]),
        "unpack it and name the image in it",
    );
    bench.refused(&write("torn.img.xz", b"\xfd7zXZ\0torn"), &with(&["--unchecked"]), "cannot be used");
    bench.refused(&write("torn.img.gz", b"\x1f\x8btorn"), &with(&["--unchecked"]), "it does not unpack");
    bench.refused(&write("noise.img", &vec![7; 100_000]), &with(&["--unchecked"]), "has no partition that can be used");

    let no_system = bench.path("blank.img");
    std::fs::copy(&stock, &no_system).unwrap();
    let file = std::fs::File::options().write(true).open(&no_system).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[0; 4096], 34_816 * 512).unwrap();
    bench.refused(&no_system, &with(&["--unchecked"]), "FAT, something else");

    std::fs::write(bench.path("agent"), program(X86)).unwrap();
    bench.refused(&stock, &words, "is for x86-64, and the image for arm64");
    let mut large = program(ARM64);
    large.resize(usize::try_from(ROOT_BYTES).unwrap(), 1);
    std::fs::write(bench.path("agent"), large).unwrap();
    bench.refused(&stock, &words, "let it grow with --grow");
    std::fs::write(bench.path("agent"), program(ARM64)).unwrap();

    bench.refused(&stock, &["--out", "x.img", "--name", "attic"], "bring one with --invite");
    let private = write("key", b"-----BEGIN OPENSSH PRIVATE KEY-----\n");
    bench.refused(&stock, &[&words[..], &["--ssh-key", private.to_str().unwrap()]].concat(), "private key");
    let short = write("short", b"1234567\n");
    bench.refused(
        &stock,
        &[&words[..], &["--wifi", "x", "--wifi-passphrase-file", short.to_str().unwrap()]].concat(),
        "8 to 63",
    );
}

/// A bundle of an owner whose first root is `root`.
fn bundle(root: &[u8], releases: &[&str]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut put = |name: &str, content: &[u8]| {
        bytes.extend(header(name, content.len() as u64).unwrap());
        bytes.extend(content);
        bytes.resize(bytes.len().next_multiple_of(BLOCK_BYTES), 0);
    };
    put("metadata/1.root.json", root);
    for release in releases {
        put(&format!("targets/{release}/{}.manifest.json", "0".repeat(64)), b"{}");
    }
    put("metadata/timestamp.json", b"{}");
    bytes.extend([0; 2 * BLOCK_BYTES]);
    bytes
}

#[test]
fn an_image_that_has_an_agent_gets_an_invite_and_what_it_runs_without_a_network() {
    let Some(bench) = Bench::new() else { return };
    let (stock, first, second) = (bench.stock("pi.img", Layout::Pi), bench.path("first.img"), bench.path("second.img"));
    let digest = |bytes: &[u8]| Digest(ring::digest::digest(&ring::digest::SHA256, bytes).as_ref().try_into().unwrap());
    let token = Token {
        url: "https://192.0.2.1:8443".into(),
        ca: digest(b"ca"),
        root: digest(b"root"),
        secret: "c2VjcmV0".into(),
    }
    .to_text();
    let put = |name: &str, root: &[u8], releases: &[&str]| {
        let path = bench.path(name);
        std::fs::write(&path, bundle(root, releases)).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let ours = put("ours", b"root", &["greeter/1.0.0"]);
    let words = ["--unchecked", "--name", "attic", "--invite", &token];
    let out = |path: &Path| ["--out".to_owned(), path.to_str().unwrap().to_owned()];

    let to = out(&first);
    let without = bench.customize_as_it_is(&stock, &[&words[..], &[&to[0], &to[1]]].concat());
    let text = String::from_utf8_lossy(&without.stderr).into_owned();
    assert!(text.contains("give the program with --agent") && !first.exists(), "{text}");
    bench.made(&stock, &[&words[..], &[&to[0], &to[1]]].concat());

    let to = out(&second);
    let made = bench.customize_as_it_is(&first, &[&words[..], &[&to[0], &to[1], "--preload", &ours]].concat());
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let image = Image { path: &second, offset: 34_816 * 512 };
    image.is_sound();
    let listed = image.debugfs("ls /var/lib/orangery/preload");
    assert!(listed.contains("greeter@1.0.0.bundle"), "{listed}");
    assert!(image.debugfs("stat /usr/bin/orangery-agent").contains("Size: 5000"), "its agent is as it was");

    let third = bench.path("third.img");
    let to = out(&third);
    for (preload, expected) in [
        (put("foreign", b"another root", &["greeter/1.0.0"]), "of another owner than the invite"),
        (put("two", b"root", &["greeter/1.0.0", "greeter/1.1.0"]), "it has 2 releases"),
        (put("none", b"root", &[]), "it has 0 releases"),
        (bench.path("agent").to_str().unwrap().to_owned(), "it is not a bundle"),
        ("nonsense".to_owned(), "neither a file nor a release"),
    ] {
        let refused = bench.customize(&first, &[&words[..], &[&to[0], &to[1], "--preload", &preload]].concat());
        let text = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(text.contains(expected) && !third.exists(), "{expected:?} in {text:?}");
    }
}
