//! What wakes the reader of a ring: an eventfd for a worker's thread, a notice for the core's task.

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
};

use rustix::{
    event::{EventfdFlags, eventfd},
    io::{Result, read, retry_on_intr, write},
};
use tokio::sync::Notify;

/// An eventfd; a clone is the same one.
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
#[derive(Debug)]
pub(super) struct Ready(pub(super) Arc<Notify>);

impl Ready {
    pub(super) fn notify(&self) {
        self.0.notify_one();
    }
}

impl Drop for Ready {
    fn drop(&mut self) {
        self.notify();
    }
}
