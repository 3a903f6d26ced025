//! What wakes the reader of a ring: an eventfd for a worker's thread, a socket for the core's task.

use std::{
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixStream as StdUnixStream,
    },
    sync::Arc,
};

use rustix::{
    event::{EventfdFlags, eventfd},
    io::{Result, read, retry_on_intr, write},
    net::{SendFlags, send},
};
use tokio::net::UnixStream;

const NOTICES_PER_READ: usize = 64;

/// An eventfd; a clone is the same one. The thread that has made it must be the last to drop one (`media_io::Thread`).
#[derive(Clone, Debug)]
pub(super) struct Wake(Arc<OwnedFd>);

impl Wake {
    pub(super) fn new() -> Result<Self> {
        Ok(Self(Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)))
    }

    /// Makes it readable. That it already is, 2^64 times over, is the only way to fail.
    pub(super) fn wake(&self) {
        let _ = retry_on_intr(|| write(&self.0, &1_u64.to_ne_bytes()));
    }

    /// To be called before the ring is looked at, so that no wake-up is missed.
    pub(super) fn clear(&self) {
        let _ = retry_on_intr(|| read(&self.0, &mut [0; 8]));
    }
}

impl AsFd for Wake {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Tells the core's task that events are waiting, and when it is dropped that there will be no more.
///
/// A socket, because sending is what a media thread may do (see `shell::sandbox`); notices of the runtime write to a
/// descriptor that only the runtime knows.
#[derive(Clone, Debug)]
pub(super) struct Ready(Arc<OwnedFd>);

impl Ready {
    /// Of one end of a socket pair, which must not block.
    pub(super) fn new(end: StdUnixStream) -> Self {
        Self(Arc::new(end.into()))
    }

    /// What finds no room is not missed: the notices before it have not been read yet.
    pub(super) fn notify(&self) {
        let _ = retry_on_intr(|| send(&self.0, &[0], SendFlags::NOSIGNAL));
    }
}

impl AsFd for Ready {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Drop for Ready {
    fn drop(&mut self) {
        self.notify();
    }
}

/// The core's end of every [`Ready`].
#[derive(Debug)]
pub(super) struct Noticed(UnixStream);

impl Noticed {
    /// Returns after a notice. To be called before the rings are looked at again. Cancellation loses none.
    pub(super) async fn wait(&self) {
        // A socket pair of our own has no error to tell.
        let _ = self.0.readable().await;
        while self.0.try_read(&mut [0; NOTICES_PER_READ]).is_ok_and(|len| len > 0) {}
    }
}

/// Both ends. Must be called within the runtime.
pub(super) fn notice() -> io::Result<(Ready, Noticed)> {
    let (there, here) = StdUnixStream::pair()?;
    for end in [&there, &here] {
        end.set_nonblocking(true)?;
    }
    Ok((Ready::new(there), Noticed(UnixStream::from_std(here)?)))
}
