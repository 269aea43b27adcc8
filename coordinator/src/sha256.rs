//! SHA-256 (FIPS 180-4), by ring.

use orangery_wire::Digest;
use ring::digest::{Context, SHA256};

/// The digest of some bytes.
pub fn digest(bytes: &[u8]) -> Digest {
    let mut hash = Hash::default();
    hash.update(bytes);
    hash.finish()
}

/// A digest of bytes that come piece by piece.
#[derive(Clone)]
pub struct Hash(Context);

impl Default for Hash {
    fn default() -> Self {
        Self(Context::new(&SHA256))
    }
}

impl Hash {
    /// Adds the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all of them.
    pub fn finish(self) -> Digest {
        let mut digest = [0; 32];
        // SHA-256 has 32 bytes: the lengths are the same.
        digest.copy_from_slice(self.0.finish().as_ref());
        Digest(digest)
    }
}

/// The digest of everything that `content` has.
pub fn of(content: &mut impl std::io::Read) -> std::io::Result<Digest> {
    let (mut hash, mut piece) = (Hash::default(), vec![0; 256 * 1024]);
    loop {
        match content.read(&mut piece)? {
            0 => return Ok(hash.finish()),
            read => hash.update(piece.get(..read).unwrap_or_default()),
        }
    }
}
