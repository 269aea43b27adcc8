//! A small real app: it listens on `PORT`, greets on `/` and answers for its health on `/health`. What it says stands in
//! the `greeter.conf` beside the program, so two releases differ by a text file alone.
//!
//! It ends on SIGTERM as any program does that asks for nothing else: no request of its own outlives a second.

mod answer;
mod settings;

use std::io::{self, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use settings::Settings;

/// Connections served at the same time; further ones wait in the kernel's queue.
const THREADS: usize = 4;
/// Time that one connection may take from its first byte to its last.
const CONNECTION_TIME_MAX: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    match run() {
        Ok(never) => match never {},
        Err(reason) => {
            eprintln!("greeter: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<std::convert::Infallible, String> {
    let settings = Settings::load()?;
    let address = listen_address()?;
    thread::sleep(settings.start_delay);
    let listener = TcpListener::bind(&address).map_err(|e| format!("cannot listen on {address}: {e}"))?;
    println!("greeter {} listens on {address}", settings.version);
    thread::scope(|scope| {
        for _ in 1..THREADS {
            scope.spawn(|| serve(&listener, &settings));
        }
        serve(&listener, &settings)
    })
}

/// `PORT` is required; `ADDRESS` is 127.0.0.1 unless it says otherwise.
fn listen_address() -> Result<String, String> {
    let port = std::env::var("PORT").map_err(|_| "the variable PORT is not set; it says where to listen".to_owned())?;
    let port: u16 = port.parse().map_err(|_| format!("PORT is {port:?}; it must be a number from 1 to 65535"))?;
    let address = std::env::var("ADDRESS").unwrap_or_else(|_| "127.0.0.1".into());
    Ok(if address.contains(':') { format!("[{address}]:{port}") } else { format!("{address}:{port}") })
}

fn serve(listener: &TcpListener, settings: &Settings) -> ! {
    loop {
        match listener.accept() {
            // A client that goes away or dawdles is its own loss.
            Ok((stream, _)) => drop(answer_one(&stream, settings)),
            // Out of descriptors or the like: breathe, so that the loop does not spin.
            Err(_) => thread::sleep(Duration::from_millis(50)),
        }
    }
}

fn answer_one(mut stream: &TcpStream, settings: &Settings) -> io::Result<()> {
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
