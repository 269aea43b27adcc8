//! Counts what the broker refuses, and keeps a hostile client from filling the log with it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Most lines in one [`WINDOW`].
const LINES_MAX: u32 = 20;
const WINDOW: Duration = Duration::from_secs(1);
/// Longest piece of a client's text in a line, in characters.
const TEXT_CHARS_MAX: usize = 128;

/// How much was refused.
#[derive(Debug)]
pub struct Denials {
    count: AtomicU64,
    window: Mutex<Window>,
}

#[derive(Debug)]
struct Window {
    begun: Instant,
    lines: u32,
    unlogged: u64,
}

impl Default for Denials {
    fn default() -> Self {
        let window = Window { begun: Instant::now(), lines: 0, unlogged: 0 };
        Self { count: AtomicU64::new(0), window: Mutex::new(window) }
    }
}

impl Denials {
    /// Everything refused since the start, logged or not.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Counts one refusal. `Some` if it may be logged: with how many before it were not.
    pub fn note(&self) -> Option<u64> {
        self.note_at(Instant::now())
    }

    fn note_at(&self, now: Instant) -> Option<u64> {
        self.count.fetch_add(1, Ordering::Relaxed);
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        if now.duration_since(window.begun) >= WINDOW {
            (window.begun, window.lines) = (now, 0);
        }
        if window.lines >= LINES_MAX {
            window.unlogged += 1;
            return None;
        }
        window.lines += 1;
        Some(std::mem::take(&mut window.unlogged))
    }
}

/// The beginning of a client's text, for a log line.
pub fn excerpt(text: &str) -> String {
    text.chars().take(TEXT_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_counted_in_full_but_logged_in_part() {
        let denials = Denials::default();
        let begun = Instant::now();
        let logged = (0..1_000).filter(|_| denials.note_at(begun).is_some()).count();
        assert_eq!((logged, denials.count()), (LINES_MAX as usize, 1_000));
        assert_eq!(denials.note_at(begun + WINDOW), Some(1_000 - u64::from(LINES_MAX)), "the next line says so");
    }
}
