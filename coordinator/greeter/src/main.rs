//! A small real app: it listens on `PORT`, or on the socket that it is passed, greets on `/` and answers for its health on
//! `/health`. What it says stands in the `greeter.conf` beside the program, so two releases differ by a text file alone.
//!
//! On SIGTERM it accepts nothing more, answers what it has accepted, and ends.

mod answer;
mod settings;

use std::io::{self, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use settings::Settings;

/// Connections served at the same time; further ones wait in the kernel's queue.
const THREADS: usize = 4;
/// Time that one connection may take from its first byte to its last.
const CONNECTION_TIME_MAX: Duration = Duration::from_secs(5);
/// Between two looks at whether it is to end.
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("greeter: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let settings = Settings::load()?;
    let stopping = Arc::new(AtomicBool::new(false));
    let registered = signal_hook::flag::register(signal_hook::consts::SIGTERM, stopping.clone());
    registered.map_err(|e| format!("cannot wait for SIGTERM: {e}"))?;
    thread::sleep(settings.start_delay);
    // Pages count only once something was written to them.
    let held = std::hint::black_box(vec![1_u8; settings.memory_mib << 20]);
    let listener = listener()?;
    // It may be shared with another process, which may be quicker to accept.
    listener.set_nonblocking(true).map_err(|e| format!("cannot wait for connections: {e}"))?;
    let address = listener.local_addr().map_err(|e| format!("cannot tell where it listens: {e}"))?;
    println!("greeter {} listens on {address}", settings.version);
    thread::scope(|scope| {
        for _ in 1..THREADS {
            scope.spawn(|| serve(&listener, &settings, &stopping));
        }
        serve(&listener, &settings, &stopping);
    });
    drop(held);
    Ok(())
}

/// The socket that was passed (sd_listen_fds(3)), or else one of its own.
fn listener() -> Result<TcpListener, String> {
    let passed = listenfd::ListenFd::from_env().take_tcp_listener(0);
    if let Some(passed) = passed.map_err(|e| format!("cannot use the socket that was passed: {e}"))? {
        return Ok(passed);
    }
    let address = listen_address()?;
    TcpListener::bind(&address).map_err(|e| format!("cannot listen on {address}: {e}"))
}

/// `PORT` is required; `ADDRESS` is 127.0.0.1 unless it says otherwise.
fn listen_address() -> Result<String, String> {
    let port = std::env::var("PORT").map_err(|_| "the variable PORT is not set; it says where to listen".to_owned())?;
    let port: u16 = port.parse().map_err(|_| format!("PORT is {port:?}; it must be a number from 1 to 65535"))?;
    let address = std::env::var("ADDRESS").unwrap_or_else(|_| "127.0.0.1".into());
    Ok(if address.contains(':') { format!("[{address}]:{port}") } else { format!("{address}:{port}") })
}

/// Serves one connection after the other until it is to stop. What was accepted is answered.
fn serve(listener: &TcpListener, settings: &Settings, stopping: &AtomicBool) {
    while !stopping.load(Ordering::Relaxed) {
        // An interruption is a signal, perhaps the one.
        let ready = poll(&mut [PollFd::new(listener, PollFlags::IN)], Some(&LOOK));
        if !matches!(ready, Ok(1..)) || stopping.load(Ordering::Relaxed) {
            continue;
        }
        match listener.accept() {
            // A client that goes away or dawdles is its own loss.
            Ok((stream, _)) => drop(answer_one(&stream, settings)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            // Out of descriptors or the like: breathe, so that the loop does not spin.
            Err(_) => thread::sleep(Duration::from_millis(50)),
        }
    }
}

fn answer_one(mut stream: &TcpStream, settings: &Settings) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    let deadline = Instant::now() + CONNECTION_TIME_MAX;
    stream.set_write_timeout(Some(CONNECTION_TIME_MAX))?;
    let head = answer::read_head(stream, |stream| {
        let left = deadline.saturating_duration_since(Instant::now());
        stream.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
        if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(()) }
    })?;
    stream.write_all(answer::to_request(&head, settings).as_bytes())?;
    stream.shutdown(std::net::Shutdown::Write)
}
