//! Tells systemd how the agent is (sd_notify(3)): up, alive, about to stop. Nothing when systemd did not ask.
//!
//! Alive means that the driver answered: its thread takes events, and the one that runs all IO brought the question and
//! the answer. An agent of which either hangs is killed and started again; apps do not notice.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::driver::Event;

/// Where systemd wants to be told, and how often.
#[derive(Debug)]
pub struct Notifier {
    address: Option<SocketAddr>,
    /// The longest silence that systemd bears.
    silence: Option<Duration>,
}

impl Notifier {
    /// What the environment asks for.
    pub fn from_environment() -> Self {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let number = |name| variable(name)?.to_str()?.parse::<u64>().ok();
        let own = variable("WATCHDOG_PID").is_none() || number("WATCHDOG_PID") == Some(std::process::id().into());
        let silence = number("WATCHDOG_USEC").filter(|micros| own && *micros > 0).map(Duration::from_micros);
        let address = variable("NOTIFY_SOCKET").map(|path| match path.as_bytes().strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name),
            None => SocketAddr::from_pathname(path),
        });
        let address = address.and_then(|made| made.map_err(|error| warn(&error)).ok());
        Self { address, silence }
    }

    /// Tells that the agent is up once the driver has loaded every record, and then that it is alive for as long as the
    /// driver answers. Ends when the driver does.
    pub async fn keep_telling(&self, events: std::sync::mpsc::Sender<Event>) {
        if self.address.is_none() {
            return std::future::pending().await;
        }
        let mut told = String::new();
        let mut news = "READY=1\n";
        loop {
            let (answer, answered) = oneshot::channel();
            if events.send(Event::Pulse(answer)).is_err() {
                return;
            }
            // No limit here: systemd's own is what counts.
            let Ok(status) = answered.await else { return };
            let mut text = news.to_owned();
            if status != told {
                text.extend(["STATUS=", &status, "\n"]);
                told = status;
            }
            if self.silence.is_some() {
                text.push_str("WATCHDOG=1\n");
            }
            if !text.is_empty() {
                self.tell(&text);
            }
            news = "";
            tokio::time::sleep(self.silence.map_or(STATUS_PAUSE, |silence| silence / 4)).await;
        }
    }

    /// Tells that the agent is about to end, and does not hang.
    pub fn stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=Stopping\n");
    }

    fn tell(&self, text: &str) {
        let Some(address) = &self.address else { return };
        let sent = UnixDatagram::unbound().and_then(|socket| {
            // systemd reads quickly; should it not, this is tried again, or is only a text.
            socket.set_write_timeout(Some(LONGEST))?;
            socket.send_to_addr(text.as_bytes(), address)
        });
        if let Err(error) = sent {
            warn(&error);
        }
    }
}

/// Between two looks at what the status says, when nothing more often is asked for.
const STATUS_PAUSE: Duration = Duration::from_mins(1);
/// For one message to be taken.
const LONGEST: Duration = Duration::from_secs(5);

fn warn(error: &io::Error) {
    tracing::warn!(reason = %error, "cannot tell systemd how the agent is");
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// A service manager's end of the socket.
    fn manager() -> (tempfile::TempDir, UnixDatagram, SocketAddr) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        (directory, socket, SocketAddr::from_pathname(path).unwrap())
    }

    fn heard(socket: &UnixDatagram) -> String {
        let mut bytes = [0; 256];
        let length = socket.recv(&mut bytes).unwrap_or(0);
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    }

    /// A notifier at work on a thread of its own, which ends with the receiver.
    fn at_work(address: SocketAddr, silence: Option<Duration>) -> mpsc::Receiver<Event> {
        let (events, incoming) = mpsc::channel();
        let notifier = Notifier { address: Some(address), silence };
        std::thread::spawn(move || crate::run::runtime().unwrap().block_on(notifier.keep_telling(events)));
        incoming
    }

    fn answer(incoming: &mpsc::Receiver<Event>, text: &str) {
        let Ok(Event::Pulse(answer)) = incoming.recv_timeout(Duration::from_secs(10)) else { panic!("no question") };
        answer.send(text.to_owned()).unwrap();
    }

    #[test]
    fn ready_is_told_with_the_drivers_first_answer_and_life_with_each() {
        let (_keep, socket, address) = manager();
        let incoming = at_work(address, Some(Duration::from_millis(40)));
        answer(&incoming, "1 app");
        assert_eq!(heard(&socket), "READY=1\nSTATUS=1 app\nWATCHDOG=1\n");
        answer(&incoming, "1 app");
        assert_eq!(heard(&socket), "WATCHDOG=1\n");
        answer(&incoming, "2 apps");
        assert_eq!(heard(&socket), "STATUS=2 apps\nWATCHDOG=1\n");
    }

    #[test]
    fn nothing_is_told_of_a_driver_that_does_not_answer() {
        let (_keep, socket, address) = manager();
        let incoming = at_work(address, Some(Duration::from_millis(4)));
        let question = incoming.recv_timeout(Duration::from_secs(10)).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        assert_eq!(heard(&socket), "");
        drop(question);
    }

    #[test]
    fn a_service_without_a_watchdog_is_ready_all_the_same() {
        let (_keep, socket, address) = manager();
        let incoming = at_work(address, None);
        answer(&incoming, "no apps");
        assert_eq!(heard(&socket), "READY=1\nSTATUS=no apps\n");
    }
}
