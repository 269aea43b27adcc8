//! The output of an app: appended by the app itself, so that no byte waits for the agent and the app outlives it.
//!
//! The file is kept small by copying and truncating it; what the app writes between the two is lost. Three files of
//! [`BYTES_MAX`] are kept: `out.log`, `out.log.1` and, the oldest, `out.log.2`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::launch::last_lines;

/// Size at which the file is put away, in bytes.
pub const BYTES_MAX: u64 = 1 << 20;
/// Of the last output, so much is read for a reason.
const TAIL_BYTES: u64 = 4 << 10;

/// One app's log.
#[derive(Debug, Clone)]
pub struct Log {
    path: PathBuf,
}

impl Log {
    /// The log in the directory `logs`, which is made if it is not there.
    pub fn new(logs: &Path) -> io::Result<Self> {
        super::make_private(logs)?;
        Ok(Self::of(logs))
    }

    /// The log in the directory `logs`, which may not be there: to be read.
    pub fn of(logs: &Path) -> Self {
        Self { path: logs.join("out.log") }
    }

    /// The file, open for appending: what a child has as its output. On a read-only file system its output goes nowhere.
    pub fn open(&self) -> io::Result<File> {
        match OpenOptions::new().append(true).create(true).mode(0o640).open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {
                OpenOptions::new().append(true).open("/dev/null")
            }
            opened => opened,
        }
    }

    /// How long the file is, in bytes; 0 if it is not there.
    pub fn size_bytes(&self) -> u64 {
        fs::metadata(&self.path).map_or(0, |metadata| metadata.len())
    }

    /// Whether it need not be put away yet.
    pub fn is_small(&self) -> bool {
        self.size_bytes() < BYTES_MAX
    }

    /// Puts the file away if it has grown to [`BYTES_MAX`]: keeps its last bytes as `out.log.1` and empties it.
    pub fn keep_small(&self) -> io::Result<()> {
        let length = self.size_bytes();
        if length < BYTES_MAX {
            return Ok(());
        }
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(length - BYTES_MAX))?;
        let beside = self.numbered("new");
        io::copy(&mut file.take(BYTES_MAX), &mut File::create(&beside)?)?;
        match fs::rename(self.numbered("1"), self.numbered("2")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => fs::rename(beside, self.numbered("1"))?,
        }
        OpenOptions::new().write(true).open(&self.path)?.set_len(0)
    }

    fn numbered(&self, suffix: &str) -> PathBuf {
        self.path.with_extension(format!("log.{suffix}"))
    }

    /// The last lines that were written after the file had `since` bytes, for people: few, short, printable, joined by
    /// " | ". Empty if there are none.
    pub fn tail(&self, since: u64) -> String {
        self.last(since, TAIL_BYTES).map_or_else(|_| String::new(), |bytes| last_lines(&bytes))
    }

    /// The last `bytes_max` bytes that were written after the file had `since` bytes.
    pub fn last(&self, since: u64, bytes_max: u64) -> io::Result<Vec<u8>> {
        let length = self.size_bytes();
        // It was put away meanwhile: all of it is newer.
        let since = if since > length { 0 } else { since };
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(since.max(length.saturating_sub(bytes_max))))?;
        let mut bytes = Vec::new();
        file.take(bytes_max).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn log() -> (tempfile::TempDir, Log) {
        let directory = tempfile::tempdir().unwrap();
        let log = Log::new(&directory.path().join("logs")).unwrap();
        (directory, log)
    }

    #[test]
    fn a_log_is_put_away_at_its_size_and_three_files_are_kept() {
        let (_keep, log) = log();
        let mut app = log.open().unwrap();
        let block = vec![b'x'; usize::try_from(BYTES_MAX).unwrap()];
        for round in 0..4u8 {
            app.write_all(&[b'0' + round, b'\n']).unwrap();
            app.write_all(&block).unwrap();
            log.keep_small().unwrap();
            assert_eq!(log.size_bytes(), 0);
        }
        app.write_all(b"goes on").unwrap();
        assert_eq!(fs::read(&log.path).unwrap(), b"goes on", "the app's own descriptor appends");
        let kept: u64 = ["1", "2"].map(|n| fs::metadata(log.numbered(n)).unwrap().len()).iter().sum();
        assert_eq!(kept, 2 * BYTES_MAX);
        assert_eq!(fs::read_dir(log.path.parent().unwrap()).unwrap().count(), 3);
    }

    #[test]
    fn a_small_log_is_left_alone() {
        let (_keep, log) = log();
        log.open().unwrap().write_all(b"a\n").unwrap();
        log.keep_small().unwrap();
        assert_eq!(log.size_bytes(), 2);
    }

    #[test]
    fn the_tail_is_of_this_run_alone_and_printable() {
        let (_keep, log) = log();
        let mut app = log.open().unwrap();
        app.write_all(b"of the release before\n").unwrap();
        let since = log.size_bytes();
        assert_eq!(log.tail(since), "");
        app.write_all(b"one\n\n  two\x1b[31m\xff\nthree").unwrap();
        assert_eq!(log.tail(since), "one | two [31m\u{fffd} | three");
        assert_eq!(log.tail(u64::MAX), log.tail(0), "a log that was put away begins anew");
    }

    #[test]
    fn the_tail_is_bounded() {
        let (_keep, log) = log();
        log.open().unwrap().write_all(&vec![b'y'; 100_000]).unwrap();
        assert!(log.tail(0).len() < 1_000);
    }
}
