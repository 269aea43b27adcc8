//! A board in qemu: an image, a plug that can be pulled, and a way in by SSH.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use orangery_tests::process::{Around, Running, free_port, output, within};

/// How long a boot, or a deployment, may take; emulated ones take about a minute on an idle machine.
const BOOT: Duration = Duration::from_mins(10);
const FIRMWARE: &str = "/usr/lib/u-boot/qemu_arm64/u-boot.bin";

/// The network card.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cable {
    /// Reaches the test's machine, as 10.0.2.2.
    In,
    /// There is no card.
    None,
}

/// One board.
pub struct Machine {
    /// What its node is called.
    pub name: String,
    /// Its card.
    pub image: PathBuf,
    around: Around,
    key: PathBuf,
    ssh_port: u16,
    running: RefCell<Option<Running>>,
}

impl Machine {
    /// A board with this card in it, not yet powered. `key` is the private key of somebody who may log in.
    pub fn new(around: Around, name: &str, image: PathBuf, key: PathBuf) -> Self {
        Self { name: name.to_owned(), image, around, key, ssh_port: free_port(), running: RefCell::default() }
    }

    fn log(&self) -> PathBuf {
        self.image.with_extension("console")
    }

    /// Powers it up. From here on it boots as a board does: u-boot, kernel, systemd.
    pub fn power_up(&mut self, cable: Cable) {
        let mut qemu = self.around.command("qemu-system-aarch64".as_ref());
        qemu.args(["-M", "virt", "-cpu", "cortex-a72", "-smp", "2", "-m", "512", "-accel", "tcg,thread=multi"]);
        qemu.args(["-bios", FIRMWARE, "-display", "none", "-monitor", "none", "-no-reboot", "-serial"]);
        qemu.arg(format!("file:{}", self.log().display()));
        // No cache of the host's between the board's flushes and the card: what the board was not told to be durable may be lost.
        let drive = format!("file={},if=none,id=card,format=raw,cache=none", self.image.display());
        qemu.args(["-drive", &drive, "-device", "virtio-blk-pci,drive=card", "-device", "virtio-rng-pci"]);
        match cable {
            Cable::In => {
                let network = format!("user,id=lan,hostfwd=tcp:127.0.0.1:{}-:22", self.ssh_port);
                // Without the card's own boot program: it boots from the disk.
                qemu.args(["-netdev", &network, "-device", "virtio-net-pci,netdev=lan,romfile="]);
            }
            Cable::None => {
                qemu.args(["-nic", "none"]);
            }
        }
        *self.running.get_mut() = Some(Running::start("qemu", qemu, self.image.with_extension("qemu.log")));
    }

    /// Pulls the plug, at whatever the board is doing.
    pub fn pull_the_plug(&mut self) {
        if let Some(mut running) = self.running.get_mut().take() {
            running.kill();
        }
    }

    /// A command on the board.
    pub fn run(&self, command: &str) -> Output {
        let mut ssh = self.around.command("ssh".as_ref());
        ssh.arg("-i").arg(&self.key).args(["-p", &self.ssh_port.to_string()]);
        let options = [
            "BatchMode=yes",
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
            "LogLevel=ERROR",
            "ConnectTimeout=10",
        ];
        ssh.args(options.iter().flat_map(|option| ["-o", option]));
        output(ssh.args(["root@127.0.0.1", command]))
    }

    /// What a command on the board says; `None` unless it succeeds.
    pub fn said(&self, command: &str) -> Option<String> {
        let output = self.run(command);
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Waits until `look` sees it; a board that gives up fails the test with its console.
    pub fn wait<T>(&self, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
        let begun = Instant::now();
        let mut last: Option<Instant> = None;
        within(BOOT + Duration::from_secs(1), what, &mut || {
            // Each look is a process or two, and the emulator wants the processor.
            if last.is_some_and(|last| last.elapsed() < Duration::from_millis(300)) {
                return None;
            }
            last = Some(Instant::now());
            let ended = self.running.borrow_mut().as_mut().and_then(Running::ended);
            assert!(ended.is_none(), "qemu has ended: {ended:?}");
            assert!(
                begun.elapsed() < BOOT,
                "{what} is not seen; the console ends with:\n{}\nand the board says:\n{}",
                self.console(),
                self.account()
            );
            look()
        })
    }

    /// What the board knows of its agent, if one can log in.
    fn account(&self) -> String {
        let said = self.run("uptime; ip -br address; orangery-agent status; orangery-agent history; journalctl --no-pager -b -n 80 -u 'orangery-*'");
        [said.stdout, said.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).join("\n")
    }

    /// The end of what the board wrote to its serial console.
    fn console(&self) -> String {
        let bytes = std::fs::read(self.log()).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        text.lines().rev().take(400).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    /// A file on the boot partition, as a laptop reads it.
    pub fn on_boot_partition(&self, name: &str) -> Option<String> {
        let mut mtype = Command::new("mtype");
        mtype.env("MTOOLS_SKIP_CHECK", "1").arg("-i").arg(format!("{}@@4M", self.image.display()));
        let said = mtype.arg(format!("::/{name}")).output().expect("mtools is installed");
        said.status.success().then(|| String::from_utf8_lossy(&said.stdout).into_owned())
    }
}

/// A copy of an image that takes no more room than what is in it.
pub fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("--sparse=always").arg(from).arg(to).status().expect("cp runs");
    assert!(copied.success(), "{} cannot be copied", from.display());
}
