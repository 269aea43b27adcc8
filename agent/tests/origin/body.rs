//! Bodies that follow a script.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

/// How a body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Proper,
    Cut,
    Stall,
}

/// A body that follows a script.
#[derive(Debug)]
pub struct Script {
    bytes: Bytes,
    left: usize,
    piece: usize,
    end: End,
    announced: bool,
    /// Before each piece, when it trickles.
    pause: Option<Pin<Box<tokio::time::Sleep>>>,
    /// Whether what was sent so far had its chance to leave.
    flushed: bool,
}

const TRICKLE_PAUSE: Duration = Duration::from_millis(5);

impl Script {
    pub fn all(bytes: Bytes) -> Self {
        let left = bytes.len();
        Self { bytes, left, piece: 16 * 1024, end: End::Proper, announced: true, pause: None, flushed: false }
    }

    /// Only `left` of the bytes.
    pub fn part(bytes: Bytes, left: usize, end: End) -> Self {
        Self { left: left.min(bytes.len()), end, ..Self::all(bytes) }
    }

    /// Without a length: chunked.
    pub fn unannounced(bytes: Bytes) -> Self {
        Self { announced: false, ..Self::all(bytes) }
    }

    pub fn trickle(bytes: Bytes) -> Self {
        Self { piece: 1, pause: Some(Box::pin(tokio::time::sleep(TRICKLE_PAUSE))), ..Self::all(bytes) }
    }

    fn end(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match self.end {
            End::Proper => Poll::Ready(None),
            End::Stall => Poll::Pending,
            // hyper flushes what it holds whenever a body is not ready.
            End::Cut if !self.flushed => {
                self.flushed = true;
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            End::Cut => Poll::Ready(Some(Err(io::Error::other("cut as ordered")))),
        }
    }
}

impl Body for Script {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if self.left == 0 {
            return self.end(cx);
        }
        if let Some(pause) = &mut self.pause {
            std::task::ready!(pause.as_mut().poll(cx));
            pause.set(tokio::time::sleep(TRICKLE_PAUSE));
        }
        let piece = self.piece.min(self.left);
        self.left -= piece;
        Poll::Ready(Some(Ok(Frame::data(self.bytes.split_to(piece)))))
    }

    fn size_hint(&self) -> SizeHint {
        // The bytes that are announced, not those that will come.
        if self.announced { SizeHint::with_exact(self.bytes.len() as u64) } else { SizeHint::new() }
    }
}
