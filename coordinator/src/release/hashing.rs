//! SHA-256 of what streams by.

use std::io::{self, Read};

use orangery_wire::Digest;

use crate::sha256::Hash;

/// A reader that hashes and counts what is read through it.
pub struct Hashing<R> {
    inner: R,
    hash: Hash,
    count: u64,
}

impl<R: Read> Hashing<R> {
    /// Hashes what is read from `inner` from now on.
    pub fn new(inner: R) -> Self {
        Self { inner, hash: Hash::default(), count: 0 }
    }

    /// Digest and count of the bytes read.
    pub fn finish(self) -> (Digest, u64) {
        (self.hash.finish(), self.count)
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(out)?;
        self.hash.update(out.get(..count).unwrap_or_default());
        self.count += count as u64;
        Ok(count)
    }
}

/// A writer that hashes and counts what is written through it.
pub struct HashingWriter<W> {
    inner: W,
    hash: Hash,
    count: u64,
}

impl<W: io::Write> HashingWriter<W> {
    /// Hashes what is written to `inner` from now on.
    pub fn new(inner: W) -> Self {
        Self { inner, hash: Hash::default(), count: 0 }
    }

    /// The writer, and digest and count of the bytes written.
    pub fn finish(self) -> (W, Digest, u64) {
        (self.inner, self.hash.finish(), self.count)
    }
}

impl<W: io::Write> io::Write for HashingWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.hash.update(bytes.get(..count).unwrap_or_default());
        self.count += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sha256::digest;

    #[test]
    fn what_is_read_and_what_is_written_is_hashed_and_counted() {
        let mut reader = Hashing::new(&b"abc"[..]);
        io::copy(&mut reader, &mut io::sink()).unwrap();
        assert_eq!(reader.finish(), (digest(b"abc"), 3));
        let mut writer = HashingWriter::new(Vec::new());
        io::Write::write_all(&mut writer, b"abc").unwrap();
        assert_eq!(writer.finish(), (b"abc".to_vec(), digest(b"abc"), 3));
    }
}
