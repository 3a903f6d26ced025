//! Descriptors: what a media thread can name. Threads of one process share a table of them, and sending is among the calls
//! that are left to a media thread: over a socket of the log's, of a connection or of the admin interface it could hand
//! audio to who keeps it. So it gets a table of its own (Linux 5.9 and later), with its own descriptors and no other.

#![expect(unsafe_code, reason = "close_range(2) is reached by no safe function, since what it closes may be in use")]

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd},
};

use rustix::{
    io::{Errno, fcntl_getfd},
    pipe::{PipeFlags, pipe_with},
    stdio::{dup2_stderr, dup2_stdin, dup2_stdout},
};

use super::{Measure, Missing};

/// Standard input, output and error. Their numbers stay taken, so that nothing that is meant for them reaches a socket.
const STANDARD: u32 = 3;

/// Gives the calling thread a table of its own with nothing but `kept` in it, and with three ends of a pipe that nobody
/// writes to in the place of the standard ones. Nothing else that is open may be in use by this thread; what it opens
/// afterwards, no other thread has. `outside` is open, not in `kept`, and tried.
pub(super) fn confine(kept: &[BorrowedFd<'_>], outside: BorrowedFd<'_>) -> Result<(), Missing> {
    let missing = |cause: String| Missing {
        measure: Measure::MediaDescriptors,
        cause,
        remedy: "Needed: Linux 5.9 or later, and whatever filters system calls here (a container's seccomp profile) must \
                 allow close_range",
    };
    let mut numbers: Vec<u32> = kept.iter().map(|fd| fd.as_raw_fd().cast_unsigned()).collect();
    numbers.sort_unstable();
    close_others(&numbers).map_err(|e| missing(format!("a thread cannot have descriptors of its own: {e}")))?;
    leave_standard_ones().map_err(|e| missing(format!("the standard descriptors cannot be replaced: {e}")))?;
    match fcntl_getfd(outside) {
        Err(Errno::BADF) => Ok(()),
        Ok(_) | Err(_) => Err(missing("a thread has descriptors of its own and the others all the same".to_owned())),
    }
}

/// From the highest on: the first range has no end and is never empty, so with it the table is parted.
fn close_others(kept: &[u32]) -> io::Result<()> {
    let mut flags = libc::CLOSE_RANGE_UNSHARE;
    let mut last = u32::MAX;
    for number in kept.iter().rev().copied().filter(|number| *number >= STANDARD).chain([STANDARD - 1]) {
        if number < last {
            close_range(number + 1, last, flags)?;
            flags = 0;
        }
        last = number.saturating_sub(1);
    }
    Ok(())
}

fn close_range(first: u32, last: u32, flags: libc::c_uint) -> io::Result<()> {
    // SAFETY: the call takes three numbers. Whoever owns one of these descriptors goes on having it, in the table that the
    // other threads share; this thread uses none of them (see `confine`).
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Reading finds an end, writing fails as on a closed descriptor, which the standard library passes over, and sending is for
/// sockets.
fn leave_standard_ones() -> rustix::io::Result<()> {
    let (end, _) = pipe_with(PipeFlags::CLOEXEC)?;
    dup2_stdin(end.as_fd())?;
    dup2_stdout(end.as_fd())?;
    dup2_stderr(end.as_fd())
}

#[cfg(test)]
mod tests {
    use std::{
        net::{TcpListener, TcpStream},
        os::{fd::OwnedFd, unix::net::UnixStream},
    };

    use rustix::net::{SendFlags, send};

    use super::*;

    /// Goal: whatever numbers a thread keeps, it has these and no others, and no other thread loses any.
    #[test]
    fn a_thread_keeps_what_it_names_and_has_nothing_else() {
        let open: Vec<OwnedFd> = (0..12).map(|_| UnixStream::pair().unwrap().0.into()).collect();
        for kept in [&[][..], &[0], &[11], &[0, 1, 2], &[9, 4, 6], &[3, 11, 10]] {
            let found = std::thread::scope(|scope| {
                let thread = scope.spawn(|| {
                    let outside = (0..open.len()).find(|number| !kept.contains(number)).unwrap();
                    let fds: Vec<_> = kept.iter().map(|number| open[*number].as_fd()).collect();
                    confine(&fds, open[outside].as_fd()).expect("a kernel with close_range");
                    (0..open.len()).filter(|number| fcntl_getfd(&open[*number]).is_ok()).collect::<Vec<_>>()
                });
                thread.join().unwrap()
            });
            let mut wanted = kept.to_vec();
            wanted.sort_unstable();
            assert_eq!(found, wanted);
            assert!(open.iter().all(|fd| fcntl_getfd(fd).is_ok()), "the others' are untouched");
        }
    }

    #[test]
    fn nothing_can_be_sent_to_the_log_or_over_a_connection_of_another_thread() {
        let (log, _reader) = UnixStream::pair().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let connection = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let try_both = || {
            let over_both = [log.as_fd(), connection.as_fd()].map(|fd| send(fd, b"audio", SendFlags::NOSIGNAL));
            let standard = [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()];
            (over_both, standard.map(|fd| send(fd, b"audio", SendFlags::NOSIGNAL)))
        };
        let (confined, standard) = std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                confine(&[], log.as_fd()).expect("a kernel with close_range");
                try_both()
            });
            thread.join().unwrap()
        });
        assert_eq!((confined, standard), ([Err(Errno::BADF); 2], [Err(Errno::NOTSOCK); 3]));
        assert_eq!(try_both().0, [Ok(5); 2], "other threads still can");
    }

    /// Goal: the operator of a machine without it is told so. Method: a filter answers as such a kernel does.
    #[test]
    fn a_kernel_without_tables_of_a_threads_own_is_named_with_the_remedy() {
        let (one, _other) = UnixStream::pair().unwrap();
        let missing = std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                super::super::calls::refuse(libc::SYS_close_range, Errno::NOSYS);
                confine(&[], one.as_fd()).unwrap_err()
            });
            thread.join().unwrap()
        });
        assert_eq!(missing.measure, Measure::MediaDescriptors);
        assert!(missing.cause.contains("not implemented") && missing.remedy.contains("5.9"), "{missing}");
        assert!(fcntl_getfd(&one).is_ok());
    }
}
