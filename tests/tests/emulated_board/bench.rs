//! The coordinator's side: a fleet at the address that an emulated board has its host at, and what it knows of the board.

use std::path::{Path, PathBuf};
use std::process::Command;

use orangery_tests::exporter::{Exporter, exporters};
use orangery_tests::fleet::{Fleet, Setup};
use orangery_tests::netns::{Site, possible};
use orangery_tests::process::succeed;
use orangery_wire::messages::{AppReport, Phase};

use super::machine::Machine;
use super::{APP, manifest};

/// What qemu calls the machine that it runs on.
const HOST: &str = "10.0.2.2";
/// How much larger a card is than its image.
const CARD_BYTES_MORE: u64 = 512 << 20;

/// What the app says of itself, asked without any program that is slow to start.
const ASK: &str = "exec 3<>/dev/tcp/127.0.0.1/9100 && printf 'GET /metrics HTTP/1.0\\r\\n\\r\\n' >&3 \
     && grep -a ^node_exporter_build_info <&3";

/// A fleet without nodes, and where its boards get their images.
pub struct Bench {
    // Before the site, whose network it uses.
    pub fleet: Fleet,
    site: Site,
    image: PathBuf,
    place: tempfile::TempDir,
}

/// What boards had on their cards tells more than they can say who cannot be reached.
impl Drop for Bench {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.place.disable_cleanup(true);
            println!("the cards and consoles of the boards stay in {}", self.place.path().display());
        }
    }
}

impl Bench {
    /// `None`, and a word about it, where no network namespaces can be made.
    pub fn new() -> Option<Self> {
        let Some(image) = std::env::var_os("ORANGERY_BOARD_IMAGE").map(PathBuf::from) else {
            panic!("ORANGERY_BOARD_IMAGE names no image; `just test-board` makes one");
        };
        if !possible() {
            return None;
        }
        let site = Site::alone("board", HOST);
        let setup = Setup { address: Some(HOST.to_owned()), around: site.around(), ..Setup::default() };
        let mut fleet = Fleet::init(&setup);
        fleet.serve();
        let beside = image.parent().unwrap().to_owned();
        let place = tempfile::Builder::new().prefix("boards-").tempdir_in(beside).unwrap();
        let key = place.path().join("key");
        succeed(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(key));
        Some(Self { fleet, site, image, place })
    }

    /// A file beside the boards' images.
    pub fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    /// A board with an image of its own, made as people make one, on a card with more room.
    pub fn board(&self, name: &str, words: &[&str]) -> Machine {
        let image = self.path(&format!("{name}.img"));
        let mut customize = self.fleet.orangery(&["image", "customize"]);
        customize.arg(&self.image).args(["--name", name, "--out"]).arg(&image);
        customize.arg("--ssh-key").arg(self.path("key.pub")).args(words);
        println!("{}", succeed(&mut customize));
        let card = std::fs::File::options().write(true).open(&image).unwrap();
        card.set_len(card.metadata().unwrap().len() + CARD_BYTES_MORE).unwrap();
        Machine::new(self.site.around(), name, image, self.path("key"))
    }

    /// Publishes a release for the board's processor.
    pub fn publish(&self, app: &str, version: &str, tree: &Path, manifest: &str) {
        let file = self.path("manifest.toml");
        std::fs::write(&file, manifest).unwrap();
        let mut publish = self.fleet.orangery(&["release", "publish", "--app", app, "--version", version]);
        publish.arg("--platform").arg(format!("linux/arm64={}", tree.display()));
        succeed(publish.arg("--manifest").arg(&file));
    }

    /// What the node last said of an app, if it is online.
    pub fn app(&self, node: &str, app: &str) -> Option<AppReport> {
        let view = self.fleet.view(node).filter(|view| view.online)?;
        view.reported?.apps.into_iter().find(|report| report.app.as_str() == app)
    }

    /// Waits until the node says that it has proven this version.
    pub fn proven(&self, board: &Machine, version: &str) {
        board.wait(&format!("{} settles on {version}", board.name), || {
            let app = self.app(&board.name, APP)?;
            let current = app.current.is_some_and(|release| release.version.to_string() == version);
            (current && app.phase == Phase::Settled && app.healthy == Some(true)).then_some(())
        });
    }

    /// As [`Self::proven`], and what runs says so, too.
    pub fn settled(&self, board: &Machine, version: &str) {
        self.proven(board, version);
        // An app is up long before one can log in: nothing of it waits for SSH.
        board.wait("one can log in", || board.said("true"));
        let line = board.said(ASK).unwrap_or_default();
        assert!(line.contains(&format!("version=\"{version}")), "its own metrics say which one it is: {line}");
    }

    /// The older and the newer of Debian's two, published: their versions.
    pub fn exporters(&self) -> [String; 2] {
        let found = exporters("arm64", self.place.path()).expect("tests/debian-packages.sh has fetched them");
        found.map(|Exporter { version, tree }| {
            self.publish(APP, &version, &tree, &manifest(""));
            version
        })
    }

    /// Tells the node what to run.
    pub fn deploy(&self, release: &str, node: &str) {
        self.fleet.deploy(release, node);
    }
}
