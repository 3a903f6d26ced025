//! What a confined thread of this process tries, to show that what confines the server's threads does.

#![expect(unsafe_code, reason = "memory with code in it is made by no safe function")]

use std::{
    io::{self, IoSliceMut},
    net::{TcpListener, TcpStream, UdpSocket},
    os::{
        fd::{AsFd as _, BorrowedFd, OwnedFd},
        unix::net::{UnixDatagram, UnixStream},
    },
    path::{Path, PathBuf},
    process::Command,
    ptr,
};

use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use rustix::{
    event::{EventfdFlags, eventfd},
    fs::{MemfdFlags, memfd_create},
    io::{Errno, read, write},
    mm::{MapFlags, ProtFlags, mmap_anonymous, munlockall, munmap},
    net::{AddressFamily, SendFlags, SocketType, send, socket},
    process::{DumpableBehavior, Pid, getpid, set_dumpable_behavior, test_kill_process},
};

use crate::{config::Config, shell::files};

use super::{Missing, confine_media_thread, confine_threads, part_descriptors};

/// Encryption by the kernel (linux/socket.h).
const AF_ALG: u16 = 38;

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

/// What a thread can do that is confined like one of a server with this configuration. Beside its state folder nothing is left
/// in `folder`, which is none of the server's, but what is put there to be looked for.
///
/// # Errors
/// What could not be taken from the thread.
pub fn trial_of_process(config: &Config, folder: &Path) -> Result<Vec<Attempt>, Vec<Missing>> {
    process_attempts(config, folder, || match confine_threads(config) {
        missing if missing.is_empty() => Ok(()),
        missing => Err(missing),
    })
}

fn process_attempts(
    config: &Config,
    folder: &Path,
    confine: impl FnOnce() -> Result<(), Vec<Missing>> + Send,
) -> Result<Vec<Attempt>, Vec<Missing>> {
    // Without them the attempts come out the wrong way.
    let _ = files::create_folder(&config.server.state_dir).and_then(|()| files::create_folder(folder));
    let _ = files::write(&folder.join("old"), b"");
    let try_all = || {
        // Before: which of them there are.
        let files = FileAttempts::of(config, folder);
        confine()?;
        Ok([files.attempts(), call_attempts()].concat())
    };
    std::thread::scope(|scope| scope.spawn(try_all).join()).unwrap_or_else(|_| Ok(Vec::new()))
}

/// Files to try.
struct FileAttempts<'a> {
    state: &'a Path,
    folder: &'a Path,
    /// To be read.
    own: Vec<(&'static str, PathBuf)>,
    /// Not to be read.
    foreign: Vec<(&'static str, PathBuf)>,
}

impl<'a> FileAttempts<'a> {
    fn of(config: &'a Config, folder: &'a Path) -> Self {
        let readable = |(what, path): (_, PathBuf)| std::fs::File::open(&path).is_ok().then_some((what, path));
        let own = [
            ("reading its certificate", config.tls.certificate.clone()),
            ("reading its key", config.tls.key.clone()),
            ("reading /etc/resolv.conf", Some(PathBuf::from("/etc/resolv.conf"))),
            ("reading /etc/hosts", Some(PathBuf::from("/etc/hosts"))),
        ];
        let foreign = [
            ("reading beside its state folder", Some(folder.join("old"))),
            ("reading /etc/passwd", Some(PathBuf::from("/etc/passwd"))),
            ("reading /etc/shadow", Some(PathBuf::from("/etc/shadow"))),
            ("reading the list of /etc", Some(PathBuf::from("/etc"))),
            ("reading the list of the root folder", Some(PathBuf::from("/"))),
            ("reading the list of processes", Some(PathBuf::from("/proc"))),
            ("reading the list of its user's home", std::env::home_dir()),
            ("reading its own program", std::env::current_exe().ok()),
            ("reading libraries", Some(PathBuf::from("/usr/lib"))),
        ];
        let existing = |list: &[(&'static str, Option<PathBuf>)]| {
            list.iter().filter_map(|(what, path)| readable((*what, path.clone()?))).collect()
        };
        Self { state: &config.server.state_dir, folder, own: existing(&own), foreign: existing(&foreign) }
    }

    fn attempts(self) -> Vec<Attempt> {
        let Self { state, folder, own, foreign } = self;
        let new = state.join(RESERVED);
        let attempt = |what, is_to_be_refused, result: io::Result<()>| Attempt {
            what,
            is_refused: result.err().is_some_and(|e| is_refusal(&e)),
            is_to_be_refused,
        };
        let read = |path: &Path| std::fs::File::open(path).map(drop);
        let own = own.into_iter().map(|(what, path)| attempt(what, false, read(&path)));
        let foreign = foreign.into_iter().map(|(what, path)| attempt(what, true, read(&path)));
        let others = [
            attempt("writing in its state folder", false, files::write(&new, b"")),
            attempt("removing in its state folder", false, std::fs::remove_file(&new)),
            attempt("writing beside it", true, files::write(&folder.join("new"), b"")),
            attempt("removing beside it", true, std::fs::remove_file(folder.join("old"))),
            attempt(
                "writing among temporary files",
                true,
                files::create(&std::env::temp_dir().join(RESERVED)).map(drop),
            ),
        ];
        own.chain(foreign).chain(others).collect()
    }
}

fn call_attempts() -> Vec<Attempt> {
    let attempt = |what, result: io::Result<()>| Attempt {
        what,
        is_refused: result.err().is_some_and(|e| is_refusal(&e)),
        is_to_be_refused: true,
    };
    let encryption = socket(AddressFamily::from_raw(AF_ALG), SocketType::SEQPACKET, None);
    vec![
        attempt("starting a program", Command::new("true").status().map(drop)),
        attempt("a file in memory", memfd_create("audio", MemfdFlags::CLOEXEC).map(drop).map_err(io::Error::from)),
        attempt("memory with code in it", code_in_memory()),
        attempt("reading a process's memory", memory_of_a_process()),
        attempt("a socket of another kind", encryption.map(drop).map_err(io::Error::from)),
        attempt("unlocking memory", munlockall().map_err(io::Error::from)),
        attempt("allowing dumps again", set_dumpable_behavior(DumpableBehavior::Dumpable).map_err(io::Error::from)),
    ]
}

fn code_in_memory() -> io::Result<()> {
    const BYTES: usize = 4_096;
    let rights = ProtFlags::READ | ProtFlags::WRITE | ProtFlags::EXEC;
    // SAFETY: a new mapping at an address that the kernel chooses, which nothing refers to; it is taken away at once.
    unsafe {
        let memory = mmap_anonymous(ptr::null_mut(), BYTES, rights, MapFlags::PRIVATE)?;
        Ok(munmap(memory, BYTES)?)
    }
}

/// Its own, which needs no right but the call.
fn memory_of_a_process() -> io::Result<()> {
    let there = [7_u8; 16];
    let mut here = [0_u8; 16];
    let remote = RemoteIoVec { base: there.as_ptr().addr(), len: there.len() };
    Ok(process_vm_readv(nix::unistd::Pid::this(), &mut [IoSliceMut::new(&mut here)], &[remote]).map(drop)?)
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

    fn config(folder: &Path) -> Config {
        for name in ["state", "conf"] {
            files::create_folder(&folder.join(name)).unwrap();
        }
        for name in ["server.pem", "server.key"] {
            files::write(&folder.join("conf").join(name), b"").unwrap();
        }
        let text = format!(
            "[server]\nstate_dir = \"{0}/state\"\n[tls]\ncertificate = \"{0}/conf/server.pem\"\n\
             key = \"{0}/conf/server.key\"\n[company]\nname = \"x\"\nregion = \"US\"\n",
            folder.display()
        );
        crate::config::parse(&text).unwrap().0
    }

    #[test]
    fn a_thread_of_the_process_reaches_its_own_files_and_no_program_and_a_free_one_everything() {
        let folder = tempfile::tempdir().unwrap();
        let (config, other) = (config(folder.path()), folder.path().join("other"));
        let confined = trial_of_process(&config, &other).expect("a kernel with Landlock and seccomp");
        let wrong: Vec<_> = confined.iter().filter(|a| a.is_refused != a.is_to_be_refused).collect();
        assert!(wrong.is_empty() && confined.len() > 15, "{wrong:?}");
        assert!(other.join("old").exists() && !other.join("new").exists());
        assert_eq!(std::fs::read_dir(&config.server.state_dir).unwrap().count(), 0);

        // Every attempt on files is Landlock's to refuse, and every other one the filter's; programs are both's.
        let by_files = process_attempts(&config, &other, || {
            super::super::files::confine(&super::super::files::Access::of(&config)).map_err(|missing| vec![missing])
        });
        let by_calls =
            process_attempts(&config, &other, || calls::confine_process(false).map_err(|missing| vec![missing]));
        let calls: Vec<_> = call_attempts().iter().map(|attempt| attempt.what).collect();
        assert_eq!(allowed(&by_calls.unwrap()).iter().filter(|what| calls.contains(what)).count(), 0);
        let left = allowed(&by_files.unwrap()).into_iter().filter(|what| calls.contains(what)).collect::<Vec<_>>();
        assert_eq!(left, calls[1..]);
        let free = process_attempts(&config, &other, || Ok(())).unwrap();
        assert_eq!(allowed(&free).len(), free.len(), "{free:?}");
        let _ = std::fs::remove_file(std::env::temp_dir().join(RESERVED));
    }
}
