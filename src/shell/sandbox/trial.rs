//! What a confined thread of this process tries, to show that what confines the server's threads does.

use std::{
    io,
    net::{TcpListener, TcpStream, UdpSocket},
    os::{
        fd::{AsFd as _, BorrowedFd, OwnedFd},
        unix::net::{UnixDatagram, UnixStream},
    },
    path::Path,
    process::Command,
};

use rustix::{
    event::{EventfdFlags, eventfd},
    fs::{MemfdFlags, memfd_create},
    io::{Errno, read, write},
    net::{SendFlags, send},
    process::{Pid, getpid, test_kill_process},
};

use crate::shell::files;

use super::{
    Missing, confine_media_thread,
    files::{Access, confine},
    part_descriptors,
};

/// One thing that was tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    pub what: &'static str,
    pub is_refused: bool,
    pub is_to_be_refused: bool,
}

/// What a thread can do that is confined like a media thread. Nothing is left in `folder` unless something was allowed.
///
/// # Errors
/// What could not be taken from the thread.
pub fn trial(folder: &Path) -> Result<Vec<Attempt>, Vec<Missing>> {
    on_a_thread(folder, |wake, outside| {
        let mut missing = part_descriptors(&[wake], outside);
        missing.extend(confine_media_thread(wake));
        if missing.is_empty() { Ok(()) } else { Err(missing) }
    })
}

/// What a thread can do that may use files as a server does whose state folder is in `folder`.
///
/// # Errors
/// What could not be taken from the thread.
pub fn trial_of_files(folder: &Path) -> Result<Vec<Attempt>, Vec<Missing>> {
    let [state, other] = ["state", "other"].map(|name| folder.join("trial").join(name));
    let try_all = || {
        for folder in [&state, &other] {
            // Without them the attempts come out the wrong way.
            let _ = files::create_folder(folder);
        }
        let _ = files::write(&other.join("old"), b"");
        confine(&Access { reads: Vec::new(), writes: vec![state.clone()] }).map_err(|missing| vec![missing])?;
        let attempt = |what, is_to_be_refused, result: io::Result<()>| Attempt {
            what,
            is_refused: result.err().is_some_and(|e| is_refusal(&e)),
            is_to_be_refused,
        };
        Ok(vec![
            attempt("writing in the state folder", false, files::write(&state.join("new"), b"")),
            attempt("writing beside it", true, files::write(&other.join("new"), b"")),
            attempt("reading beside it", true, std::fs::File::open(other.join("old")).map(drop)),
            attempt("removing beside it", true, std::fs::remove_file(other.join("old"))),
            attempt(
                "writing among temporary files",
                true,
                files::create(&std::env::temp_dir().join(RESERVED)).map(drop),
            ),
        ])
    };
    std::thread::scope(|scope| scope.spawn(try_all).join()).unwrap_or_else(|_| Ok(Vec::new()))
}

/// Nobody's file.
const RESERVED: &str = "ringdown-must-not-be-written";

/// `confine` is given what a worker reads from, and something of the process's that is open.
fn on_a_thread(
    folder: &Path,
    confine: impl FnOnce(BorrowedFd<'_>, BorrowedFd<'_>) -> Result<(), Vec<Missing>> + Send,
) -> Result<Vec<Attempt>, Vec<Missing>> {
    let own = getpid();
    // Closed by this thread, whose they are.
    let Ok(outside) = Outside::open() else { return Ok(Vec::new()) };
    let try_all = || {
        confine(outside.wake.as_fd(), outside.log.as_fd())?;
        Ok(attempts(folder, &outside, own))
    };
    std::thread::scope(|scope| scope.spawn(try_all).join()).unwrap_or_else(|_| Ok(Vec::new()))
}

/// What is open already when a thread is confined.
struct Outside {
    /// The one that a worker keeps.
    wake: OwnedFd,
    reader: io::PipeReader,
    writer: io::PipeWriter,
    datagrams: UdpSocket,
    /// As a service manager gives it to the process for its log, and the manager's end.
    log: UnixStream,
    _manager: UnixStream,
    /// As of a telephone or of who uses the admin interface, and the other end's.
    connection: TcpStream,
    _listener: TcpListener,
}

impl Outside {
    fn open() -> io::Result<Self> {
        let (reader, writer) = io::pipe()?;
        let (log, manager) = UnixStream::pair()?;
        let listener = TcpListener::bind("127.0.0.1:0")?;
        Ok(Self {
            wake: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            reader,
            writer,
            datagrams: UdpSocket::bind("127.0.0.1:0")?,
            log,
            _manager: manager,
            connection: TcpStream::connect(listener.local_addr()?)?,
            _listener: listener,
        })
    }
}

fn attempts(folder: &Path, outside: &Outside, own: Pid) -> Vec<Attempt> {
    let attempt = |what, result: io::Result<()>| Attempt {
        what,
        is_refused: result.err().is_some_and(|e| is_refusal(&e)),
        is_to_be_refused: true,
    };
    let of_errno = |result: Result<usize, Errno>| result.map(drop).map_err(io::Error::from);
    vec![
        attempt("opening a file", std::fs::File::open("/etc/passwd").map(drop)),
        attempt("creating a file", files::create(&folder.join("audio")).map(drop)),
        attempt("creating a folder", files::create_folder(&folder.join("audio-folder"))),
        attempt("a file in memory", memfd_create("audio", MemfdFlags::CLOEXEC).map(drop).map_err(io::Error::from)),
        attempt("writing to an open pipe", of_errno(write(&outside.writer, b"audio"))),
        attempt("writing to its own event queue", of_errno(write(&outside.wake, &1_u64.to_ne_bytes()))),
        attempt("reading from an open pipe", of_errno(read(&outside.reader, &mut [0; 8]))),
        attempt("sending to an open log", of_errno(send(&outside.log, b"audio", SendFlags::NOSIGNAL))),
        attempt("sending over an open connection", of_errno(send(&outside.connection, b"audio", SendFlags::NOSIGNAL))),
        attempt("duplicating a descriptor", outside.datagrams.try_clone().map(drop)),
        attempt("starting a thread", std::thread::Builder::new().spawn(|| ()).map(drop)),
        attempt("starting a program", Command::new("true").status().map(drop)),
        attempt("listening on TCP", TcpListener::bind("127.0.0.1:0").map(drop)),
        attempt("a Unix socket", UnixDatagram::unbound().map(drop)),
        attempt("signalling a process", test_kill_process(own).map_err(io::Error::from)),
    ]
}

/// By a rule, or because there is no such descriptor in the thread's table.
fn is_refusal(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied || error.raw_os_error() == Some(Errno::BADF.raw_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shell::sandbox::calls;

    fn allowed(attempts: &[Attempt]) -> Vec<&'static str> {
        attempts.iter().filter(|attempt| !attempt.is_refused).map(|attempt| attempt.what).collect()
    }

    #[test]
    fn a_free_thread_may_do_everything_and_a_confined_one_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let confined = trial(folder.path()).expect("a kernel with Landlock and seccomp");
        assert_eq!(allowed(&confined), Vec::<&str>::new());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        // Seccomp and descriptors of its own suffice, where a kernel has no Landlock ...
        let filter = |wake: BorrowedFd<'_>| calls::confine(wake).map_err(|missing| vec![missing]);
        let filtered = on_a_thread(folder.path(), |wake, outside| {
            assert_eq!(part_descriptors(&[wake], outside), []);
            filter(wake)
        });
        assert_eq!(allowed(&filtered.unwrap()), Vec::<&str>::new());
        // ... and without the latter it could send to whoever the process has a socket for.
        let sharing = on_a_thread(folder.path(), |wake, _| filter(wake)).unwrap();
        assert_eq!(allowed(&sharing), ["sending to an open log", "sending over an open connection"]);

        // Reading from a pipe comes after writing to it; so nothing here waits.
        let free = on_a_thread(folder.path(), |_, _| Ok(())).unwrap();
        assert_eq!(allowed(&free).len(), free.len(), "{free:?}");
        assert!(confined.len() > 10 && free.len() == confined.len());
    }

    #[test]
    fn the_rules_of_the_process_allow_its_state_folder_and_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let attempts = trial_of_files(folder.path()).expect("a kernel with Landlock");
        assert!(attempts.len() > 4 && attempts.iter().all(|a| a.is_refused == a.is_to_be_refused), "{attempts:?}");
    }
}
