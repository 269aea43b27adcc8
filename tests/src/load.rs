//! Clients that never pause: what they saw says whether a switch was to be noticed.

use std::collections::BTreeSet;
use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const CLIENTS: usize = 4;
/// Longer than any switch may take: whoever waits longer counts as one whose request broke.
const LONGEST: Duration = Duration::from_secs(30);

/// What clients saw.
#[derive(Debug, Default)]
pub struct Seen {
    /// Requests that were answered with 200.
    pub answered: usize,
    /// Connections that were refused.
    pub refused: usize,
    /// Connections that were made, but whose request was not answered.
    pub broken: usize,
    /// The longest that one took.
    pub longest: Duration,
    /// The versions that answered.
    pub versions: BTreeSet<String>,
    /// How the first one went that did not go well.
    pub first: Option<String>,
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { answered, refused, broken, longest, versions, first } = self;
        write!(f, "{answered} requests answered, {refused} connections refused, {broken} requests broken; ")?;
        write!(
            f,
            "the longest took {} ms; versions {versions:?}; {}",
            longest.as_millis(),
            first.as_deref().unwrap_or("")
        )
    }
}

/// Clients at work.
pub struct Load {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Seen>>,
}

impl Load {
    /// Clients of the greeter on `port`, each asking one thing after the other on a connection of its own.
    pub fn on(port: u16) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let client = |_| {
            let stop = stop.clone();
            std::thread::spawn(move || ask_until(&stop, port))
        };
        Self { clients: (0..CLIENTS).map(client).collect(), stop }
    }

    /// Lets each finish its request; what all of them saw.
    pub fn end(self) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Seen::default();
        for client in self.clients {
            let seen = client.join().expect("a client goes on whatever it sees");
            all.answered += seen.answered;
            all.refused += seen.refused;
            all.broken += seen.broken;
            all.longest = all.longest.max(seen.longest);
            all.versions.extend(seen.versions);
            all.first = all.first.or(seen.first);
        }
        all
    }
}

fn ask_until(stop: &AtomicBool, port: u16) -> Seen {
    let mut seen = Seen::default();
    while !stop.load(Ordering::Relaxed) {
        let start = Instant::now();
        match TcpStream::connect(("127.0.0.1", port)) {
            Err(error) => {
                seen.refused += 1;
                seen.first.get_or_insert_with(|| format!("connect: {error}"));
            }
            Ok(stream) => match ask(stream) {
                Ok(version) => {
                    seen.answered += 1;
                    seen.versions.insert(version);
                }
                Err(error) => {
                    seen.broken += 1;
                    seen.first.get_or_insert_with(|| format!("request: {error}"));
                }
            },
        }
        seen.longest = seen.longest.max(start.elapsed());
        // Other tests run beside it.
        std::thread::sleep(Duration::from_millis(1));
    }
    seen
}

/// The version that answers.
fn ask(mut stream: TcpStream) -> std::io::Result<String> {
    stream.set_read_timeout(Some(LONGEST))?;
    stream.set_write_timeout(Some(LONGEST))?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let version = answer.strip_prefix("HTTP/1.1 200 ").and_then(|rest| rest.split_once("\"version\":\""));
    let version = version.and_then(|(_, rest)| rest.split_once('"'));
    version.map(|(version, _)| version.to_owned()).ok_or_else(|| std::io::Error::new(ErrorKind::InvalidData, answer))
}
