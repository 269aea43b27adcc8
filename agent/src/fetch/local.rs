//! Bytes that are on this machine already, in a file that is open: bounded, in pieces, and judged as a download is.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use orangery_wire::manifest::Pack;
use tokio::task::spawn_blocking;

use super::FetchError;
use super::part::Sink;

/// Bytes that are read in one go.
const PIECE_BYTES: u64 = 256 * 1024;

/// A run of bytes in an open file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// Where it begins.
    pub offset: u64,
    /// How many bytes it has.
    pub length: u64,
}

impl Run {
    /// The whole of it, if it has at most `length_max` bytes. `name` is for messages.
    pub async fn read(self, file: Arc<File>, name: String, length_max: u64) -> Result<Vec<u8>, FetchError> {
        if self.length > length_max {
            return Err(FetchError::TooLong { url: name, bytes_max: length_max });
        }
        self.piece(file, 0, self.length).await.map_err(|source| FetchError::Local { name, source })
    }

    /// Copies it into the file `part`, which is used as far as it holds the beginning already, and returns that file,
    /// verified and at its beginning. A stick can be changed while it is read: what counts is what is in `part`.
    pub async fn copy(self, file: Arc<File>, name: String, pack: &Pack, part: &Path) -> Result<File, FetchError> {
        if self.length != pack.size_bytes {
            return Err(FetchError::WrongSize { url: name, got: self.length, size_bytes: pack.size_bytes });
        }
        let mut sink = Sink::open(part, pack.size_bytes).await?;
        let mut is_whole = sink.len() == 0;
        loop {
            if let Err(source) = self.pour(&file, &mut sink).await? {
                // What is here is kept, for the stick may come back.
                sink.settle().await?;
                return Err(FetchError::Local { name, source });
            }
            let got = sink.digest().await?;
            if got == pack.digest {
                return sink.into_file().await;
            }
            if is_whole {
                sink.delete().await?;
                return Err(FetchError::WrongDigest { url: name, got });
            }
            // The beginning came from elsewhere.
            sink.empty().await?;
            is_whole = true;
        }
    }

    /// Appends what is missing. The inner error is the source's, the outer one that of the part.
    async fn pour(self, file: &Arc<File>, sink: &mut Sink) -> Result<io::Result<()>, FetchError> {
        while sink.len() < self.length {
            let length = PIECE_BYTES.min(self.length - sink.len());
            match self.piece(file.clone(), sink.len(), length).await {
                Ok(bytes) => sink.push(Bytes::from(bytes)).await?,
                Err(source) => return Ok(Err(source)),
            }
        }
        Ok(Ok(()))
    }

    /// `length` bytes from the byte `at` of the run on. Both are within it.
    async fn piece(self, file: Arc<File>, at: u64, length: u64) -> io::Result<Vec<u8>> {
        let read = spawn_blocking(move || {
            let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
            file.read_exact_at(&mut bytes, self.offset + at).map(|()| bytes)
        });
        read.await.map_err(io::Error::other).flatten()
    }
}
