//! Stock images as vendors lay them out, and what is done to them.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use orangery_wire::Digest;
use orangery_wire::token::Token;

/// The size of each root file system.
pub const ROOT_BYTES: u64 = 48 << 20;
/// Processors, as an ELF header names them.
pub const ARM64: u8 = 0xb7;
pub const X86: u8 = 0x3e;

/// An invite token as `orangery node invite` prints it; nobody asks here whether it counts.
pub fn token() -> String {
    let digest = |bytes: &[u8]| Digest(ring::digest::digest(&ring::digest::SHA256, bytes).as_ref().try_into().unwrap());
    let url = "https://192.0.2.1:8443".into();
    Token { url, ca: digest(b"ca"), root: digest(b"root"), secret: "c2VjcmV0".into() }.to_text()
}

/// How a stock image is laid out.
#[derive(Clone, Copy)]
pub enum Layout {
    /// As Raspberry Pi OS: MBR, FAT mounted at /boot/firmware, ext4.
    Pi,
    /// As Armbian: GPT, one ext4.
    Armbian,
}

/// Where images are made, with an agent in it.
pub struct Bench {
    place: tempfile::TempDir,
}

/// A program that is found as an administrator finds it.
pub fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env("PATH", format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap())).env("MTOOLS_SKIP_CHECK", "1");
    command
}

/// Runs it, and gives what it says.
pub fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|e| {
        panic!("{command:?}: {e}; install: apt-get install e2fsprogs fdisk mtools dosfstools xz-utils")
    });
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The first bytes of a program for `machine`.
pub fn program(machine: u8) -> Vec<u8> {
    let mut bytes = b"\x7fELF\x02\x01\x01".to_vec();
    bytes.resize(5_000, b'x');
    bytes[18..20].copy_from_slice(&[machine, 0]);
    bytes
}

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
    pub fn new() -> Option<Self> {
        if !has_tools() {
            return None;
        }
        let bench = Self { place: tempfile::tempdir().unwrap() };
        std::fs::write(bench.path("agent"), program(ARM64)).unwrap();
        Some(bench)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    /// A stock image with a small system in it.
    pub fn stock(&self, name: &str, layout: Layout) -> PathBuf {
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

    pub fn customize(&self, stock: &Path, words: &[&str]) -> Output {
        let agent = self.path("agent");
        self.customize_as_it_is(stock, &[&["--agent", agent.to_str().unwrap()], words].concat())
    }

    pub fn customize_as_it_is(&self, stock: &Path, words: &[&str]) -> Output {
        let mut orangery = Command::new(env!("CARGO_BIN_EXE_orangery"));
        orangery.arg("--dir").arg(self.path("home")).args(["image", "customize"]).arg(stock);
        orangery.args(words).env("NO_COLOR", "1").output().unwrap()
    }

    pub fn made(&self, stock: &Path, words: &[&str]) -> String {
        let output = self.customize(stock, words);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Must fail, saying `expected`, and leave nothing; the stock image is not touched.
    #[track_caller]
    pub fn refused(&self, stock: &Path, words: &[&str], expected: &str) {
        let touched = || stock.metadata().map(|now| (now.ino(), now.len(), now.modified().unwrap())).ok();
        let before = (self.listing(), touched());
        let output = self.customize(stock, words);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && text.contains(expected), "{expected:?} in {text:?}");
        assert_eq!((self.listing(), touched()), before, "nothing is left, and the stock image is as it was");
    }

    fn listing(&self) -> Vec<PathBuf> {
        let mut names: Vec<_> = std::fs::read_dir(self.place.path()).unwrap().map(|e| e.unwrap().path()).collect();
        names.sort();
        names
    }
}

/// An image that was made, and where its root file system lies.
pub struct Image<'a> {
    pub path: &'a Path,
    pub offset: u64,
}

impl Image<'_> {
    pub fn debugfs(&self, request: &str) -> String {
        run(command("debugfs").args(["-R", request]).arg(format!("{}?offset={}", self.path.display(), self.offset)))
    }

    pub fn cat(&self, path: &str) -> String {
        self.debugfs(&format!("cat {path}"))
    }

    pub fn is_sound(&self) {
        run(command("e2fsck").args(["-f", "-n"]).arg(format!("{}?offset={}", self.path.display(), self.offset)));
    }
}
