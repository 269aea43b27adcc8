//! Questions on a terminal: `script`, which every Debian has, gives the programs a real one.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::{Read as _, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use orangery_tests::fleet::Fleet;
use orangery_tests::process::{PATIENCE, program, succeed};

const PASSWORD: &str = "a quiet tram ride";

/// A shell's command on a terminal of its own.
struct Terminal {
    child: Child,
    shown: String,
    more: Receiver<Vec<u8>>,
}

impl Terminal {
    fn run(fleet: &Fleet, command: &str) -> Self {
        let command = command.replace("orangery ", &format!("{} ", program("orangery").display()));
        let mut script = Command::new("script");
        script
            .args(["--quiet", "--return", "--command", &command, "/dev/null"])
            .env("SHELL", "/bin/sh")
            .env("ORANGERY_DIR", fleet.home());
        let mut child = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut out = child.stdout.take().unwrap();
        let (send, more) = channel();
        std::thread::spawn(move || {
            let mut bytes = [0_u8; 1024];
            while let Some(read) = out.read(&mut bytes).ok().filter(|read| *read > 0) {
                drop(send.send(bytes[..read].to_vec()));
            }
        });
        Self { child, shown: String::new(), more }
    }

    /// Waits until the terminal shows a text, and types.
    fn answers(&mut self, question: &str, typed: &str) {
        while !self.shown.contains(question) {
            let more = self.more.recv_timeout(PATIENCE);
            let more = more.unwrap_or_else(|_| panic!("{question:?} is not asked: {:?}", self.shown));
            self.shown.push_str(&String::from_utf8_lossy(&more));
        }
        self.child.stdin.as_mut().unwrap().write_all(typed.as_bytes()).unwrap();
    }

    /// All that was shown, and whether it succeeded.
    fn ends(mut self) -> (bool, String) {
        // `script` may miss that the program has ended, and ends with its own input then.
        drop(self.child.stdin.take());
        while let Ok(more) = self.more.recv_timeout(PATIENCE) {
            self.shown.push_str(&String::from_utf8_lossy(&more));
        }
        (self.child.wait().unwrap().success(), self.shown)
    }
}

#[test]
fn a_password_is_typed_twice_and_never_shown_and_the_terminal_is_as_it_was_after_an_interrupt() {
    let fleet = Fleet::start();
    succeed(&mut fleet.orangery(&["user", "add", "kim", "--role", "viewer"]));
    let mut differs = Terminal::run(&fleet, "orangery user password kim");
    differs.answers("New password for kim: ", &format!("{PASSWORD}\n"));
    differs.answers("The same again: ", "a quiet train ride\n");
    let (done, shown) = differs.ends();
    assert!(!done && shown.contains("the two passwords differ; nothing was changed"), "{shown}");
    assert!(!shown.contains("quiet"), "{shown}");

    let mut same = Terminal::run(&fleet, "orangery user password kim");
    same.answers("New password for kim: ", &format!("{PASSWORD}\n"));
    same.answers("The same again: ", &format!("{PASSWORD}\n"));
    let (done, shown) = same.ends();
    assert!(done && shown.contains("kim can sign in with the new password") && !shown.contains("quiet"), "{shown}");
    // One's own: with none yet, Enter.
    let mut own = Terminal::run(&fleet, "orangery user password owner");
    own.answers("The password that you have", "\n");
    own.answers("New password for owner: ", &format!("{PASSWORD}\n"));
    own.answers("The same again: ", &format!("{PASSWORD}\n"));
    assert!(own.ends().0);

    // The shell hears Ctrl-C too, and most would end with it.
    let mut interrupted = Terminal::run(&fleet, "trap : INT; orangery user password kim; echo ended with $?; stty -a");
    interrupted.answers("New password for kim: ", "\u{3}");
    let (_, shown) = interrupted.ends();
    assert!(shown.contains("ended with 130"), "{shown}");
    assert!(shown.contains(" echo ") && !shown.contains("-echo "), "what is typed is shown again: {shown}");
}

#[test]
fn new_keys_are_sealed_with_a_passphrase_that_is_typed_and_a_plan_is_agreed_to_with_a_letter() {
    let fleet = Fleet::start();
    let other = fleet.path().join("other");
    let words = format!("orangery --dir {} init --address 127.0.0.1 --https-port 0 --mqtt-port 0", other.display());
    let mut init = Terminal::run(&fleet, &words);
    init.answers("New passphrase for the owner's keys: ", &format!("{PASSWORD}\n"));
    init.answers("The same again: ", &format!("{PASSWORD}\n"));
    let (done, shown) = init.ends();
    assert!(done && !shown.contains("quiet"), "{shown}");
    let key = std::fs::read_to_string(other.join("owner/targets.key")).unwrap();
    assert!(!key.contains("BEGIN PRIVATE KEY"), "it is sealed");

    let _node = fleet.node("attic");
    fleet.publish("1.0.0", 200);
    for (letter, code) in [("n\n", false), ("y\n", true)] {
        let mut deploy = Terminal::run(&fleet, "orangery deploy greeter@1.0.0 --to all --detach");
        deploy.answers("[y/N] ", letter);
        assert_eq!(deploy.ends().0, code, "{letter:?}");
    }
    fleet.settled_on("attic", "1.0.0");
}
