//! A stream that fails when nothing moves on it for too long, in whatever state the protocol above it is.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// The stream, and when it was last seen to move.
pub(super) struct Unstalled<S> {
    stream: S,
    stall_max: Duration,
    moved: Instant,
    alarm: Pin<Box<Sleep>>,
}

impl<S> Unstalled<S> {
    pub(super) fn new(stream: S, stall_max: Duration) -> Self {
        let alarm = Box::pin(tokio::time::sleep(stall_max));
        Self { stream, stall_max, moved: Instant::now(), alarm }
    }

    /// What an attempt to read or write came to; if it has to wait, then not for ever.
    fn watch<T>(&mut self, cx: &mut Context<'_>, attempt: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if attempt.is_ready() {
            self.moved = Instant::now();
            return attempt;
        }
        // The alarm is set anew only when it rings: that is once a minute, not once a packet.
        loop {
            ready!(self.alarm.as_mut().poll(cx));
            let end = self.moved + self.stall_max;
            if end <= Instant::now() {
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "nothing moved on the connection")));
            }
            self.alarm.as_mut().reset(end);
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Unstalled<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let attempt = Pin::new(&mut self.stream).poll_read(cx, buffer);
        self.watch(cx, attempt)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Unstalled<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let attempt = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.watch(cx, attempt)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let attempt = Pin::new(&mut self.stream).poll_write_vectored(cx, pieces);
        self.watch(cx, attempt)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.stream).poll_flush(cx) {
            // There is nothing to flush most of the time: that is no movement.
            Poll::Ready(done) => Poll::Ready(done),
            Poll::Pending => self.watch(cx, Poll::Pending),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let attempt = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.watch(cx, attempt)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    const LIMIT: Duration = Duration::from_mins(1);

    #[tokio::test(start_paused = true)]
    async fn a_stream_on_which_nothing_moves_fails_and_one_that_moves_slowly_does_not() {
        let (mut near, far) = tokio::io::duplex(8);
        let mut far = Unstalled::new(far, LIMIT);
        let begun = Instant::now();
        let slow = tokio::spawn(async move {
            for _ in 0..5 {
                tokio::time::sleep(LIMIT / 2).await;
                near.write_all(b"x").await.unwrap();
            }
            near
        });
        let mut five = [0; 5];
        far.read_exact(&mut five).await.unwrap();
        let near = slow.await.unwrap();
        assert_eq!(far.read_u8().await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(begun.elapsed() >= LIMIT / 2 * 5 + LIMIT);
        drop(near);
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_takes_nothing_is_noticed_by_the_writer() {
        let (near, far) = tokio::io::duplex(8);
        let mut far = Unstalled::new(far, LIMIT);
        assert_eq!(far.write_all(&[0; 100]).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        drop(near);
    }
}
