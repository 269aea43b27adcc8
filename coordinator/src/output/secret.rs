//! Secrets that are typed on a terminal, which does not show them, and shows again what is typed whatever ends the question.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::sync::{Mutex, OnceLock, PoisonError};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use crate::signals::Ends;

/// How the terminal was before a question that is still open.
static BEFORE: Mutex<Option<(File, Termios)>> = Mutex::new(None);
/// The exit code of a program that was interrupted, as shells have it.
const INTERRUPTED: i32 = 130;

/// Longest line that a terminal gives, in bytes (`N_TTY_BUF_SIZE` of Linux).
const LINE_BYTES_MAX: u64 = 4_096;

/// Asks for a secret on the terminal of this process. Ctrl-C ends the program, and not before the terminal is as it was.
///
/// Nothing is shown of what is typed from before the question is to be seen: whoever answers at once, as programs do, is not shown either.
pub fn ask_secret(question: &str) -> io::Result<String> {
    watch_for_interrupts()?;
    let mut terminal = File::options().read(true).write(true).open("/dev/tty")?;
    let before = tcgetattr(&terminal)?;
    let mut hidden = before.clone();
    hidden.local_modes.remove(LocalModes::ECHO | LocalModes::ECHONL);
    *BEFORE.lock().unwrap_or_else(PoisonError::into_inner) = Some((terminal.try_clone()?, before));
    let answer = tcsetattr(&terminal, OptionalActions::Flush, &hidden)
        .map_err(io::Error::from)
        .and_then(|()| terminal.write_all(question.as_bytes()))
        .and_then(|()| line_of(&terminal));
    restore();
    // The one that was typed was not shown.
    let _ = terminal.write_all(b"\n");
    answer
}

fn line_of(terminal: &File) -> io::Result<String> {
    let mut line = String::new();
    BufReader::new(terminal.take(LINE_BYTES_MAX)).read_line(&mut line)?;
    match line.strip_suffix('\n') {
        Some(secret) => Ok(secret.to_owned()),
        None => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the line was not ended")),
    }
}

fn restore() {
    if let Some((terminal, before)) = BEFORE.lock().unwrap_or_else(PoisonError::into_inner).take() {
        let _ = tcsetattr(terminal, OptionalActions::Now, &before);
    }
}

/// Once: a thread that is told of the signals that end a program. Only a thread of its own can hear them, for the one that asks
/// waits for a line.
fn watch_for_interrupts() -> io::Result<()> {
    static BEGUN: OnceLock<()> = OnceLock::new();
    if BEGUN.set(()).is_err() {
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let mut ends = {
        let _inside = runtime.enter();
        Ends::listen()?
    };
    std::thread::Builder::new().name("interrupts".to_owned()).spawn(move || {
        runtime.block_on(ends.next());
        restore();
        std::process::exit(INTERRUPTED);
    })?;
    Ok(())
}
