//! The system calls that threads of another process really make, by ptrace(2): each is stopped at every call, and goes on.

use std::{
    collections::BTreeSet,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use nix::{
    Result,
    errno::Errno,
    sys::{
        ptrace::{self, Options},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};

use super::process::Thread;

/// Between two looks whether a thread has stopped. A traced thread that makes a thousand calls a second waits some tenth of
/// its time.
const PAUSE: Duration = Duration::from_micros(50);

/// Threads that are watched.
pub(super) struct Trace {
    stop: Arc<AtomicBool>,
    watchers: Vec<(String, JoinHandle<Result<Calls>>)>,
}

/// What a thread has called, by number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Calls {
    /// At least once, however that came out.
    pub(super) made: BTreeSet<i64>,
    /// With EPERM, as a filter refuses them.
    pub(super) refused: BTreeSet<i64>,
}

impl Trace {
    /// Begins with these threads; whether it may is seen at the end.
    pub(super) fn start<'t>(threads: impl Iterator<Item = &'t Thread>) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let watch = |thread: &Thread| {
            let (id, stop) = (Pid::from_raw(thread.id), Arc::clone(&stop));
            // What is traced belongs to one thread of the tracer.
            let watcher = thread::Builder::new().name("watcher".to_owned()).spawn(move || watch(id, &stop))?;
            Ok((thread.name.clone(), watcher))
        };
        let watchers = threads.map(watch).collect::<io::Result<_>>()?;
        Ok(Self { stop, watchers })
    }

    /// Name and calls, by number, of each thread.
    pub(super) fn end(self) -> io::Result<Vec<(String, Calls)>> {
        self.stop.store(true, Ordering::Relaxed);
        let seen = self.watchers.into_iter().map(|(name, watcher)| {
            let calls = watcher.join().expect("a watcher does not panic")?;
            Ok((name, calls))
        });
        // All of them, so that each has let go of its thread.
        seen.collect::<Vec<io::Result<_>>>().into_iter().collect()
    }
}

/// What the thread calls until `stop`.
fn watch(thread: Pid, stop: &AtomicBool) -> Result<Calls> {
    ptrace::seize(thread, Options::PTRACE_O_TRACESYSGOOD)?;
    ptrace::interrupt(thread)?;
    let mut calls = Calls::default();
    let (mut is_within, mut is_ending) = (false, false);
    loop {
        match waitpid(thread, Some(WaitPidFlag::__WALL | WaitPidFlag::WNOHANG))? {
            WaitStatus::StillAlive => {
                if !is_ending && stop.load(Ordering::Relaxed) {
                    is_ending = true;
                    ptrace::interrupt(thread)?;
                }
                thread::sleep(PAUSE);
            }
            // On the way in, and then on the way out. Any stop takes the place of one that an interruption has asked for.
            WaitStatus::PtraceSyscall(_) => {
                if is_within {
                    calls.note(call(thread)?);
                }
                is_within = !is_within;
                if is_ending {
                    return ptrace::detach(thread, None).map(|()| calls);
                }
                ptrace::syscall(thread, None)?;
            }
            WaitStatus::PtraceEvent(..) if is_ending => return ptrace::detach(thread, None).map(|()| calls),
            WaitStatus::PtraceEvent(..) => ptrace::syscall(thread, None)?,
            WaitStatus::Stopped(_, signal) if is_ending => return ptrace::detach(thread, signal).map(|()| calls),
            WaitStatus::Stopped(_, signal) => ptrace::syscall(thread, signal)?,
            WaitStatus::Exited(..) | WaitStatus::Signaled(..) | WaitStatus::Continued(_) => return Err(Errno::ESRCH),
        }
    }
}

impl Calls {
    fn note(&mut self, (number, result): (i64, i64)) {
        let is_refused = result == -i64::from(Errno::EPERM as i32);
        if is_refused { &mut self.refused } else { &mut self.made }.insert(number);
    }
}

/// Number and result of the call that a stopped thread comes back from.
#[cfg(target_arch = "x86_64")]
fn call(thread: Pid) -> Result<(i64, i64)> {
    ptrace::getregs(thread).map(|registers| (registers.orig_rax.cast_signed(), registers.rax.cast_signed()))
}

#[cfg(target_arch = "aarch64")]
fn call(thread: Pid) -> Result<(i64, i64)> {
    ptrace::getregs(thread).map(|registers| (registers.regs[8].cast_signed(), registers.regs[0].cast_signed()))
}

/// Of other processors nobody knows here in which register it lies.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn call(_thread: Pid) -> Result<(i64, i64)> {
    Err(Errno::ENOSYS)
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        process::{Command, Stdio},
    };

    use super::*;
    use crate::shell::prove::process::Process;

    /// Goal: what a thread does while it is watched is seen, and it goes on afterwards. Method: `cat` as the other process.
    #[test]
    fn a_process_is_watched_while_it_works_and_let_go_of() {
        let mut cat = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (mut to, mut from) = (cat.stdin.take().unwrap(), cat.stdout.take().unwrap());
        let mut echo = || {
            to.write_all(b"x").unwrap();
            from.read_exact(&mut [0]).unwrap();
        };
        echo();
        let threads = Process(cat.id()).threads().unwrap();
        let trace = Trace::start(threads.iter()).unwrap();
        (0..200).for_each(|_| {
            thread::sleep(Duration::from_millis(1));
            echo();
        });
        let seen = trace.end().unwrap();
        echo();
        drop(to);
        assert!(cat.wait().unwrap().success());
        let [(name, calls)] = &seen[..] else { panic!("{seen:?}") };
        assert_eq!(name, "cat");
        // It reads and writes, by whatever numbers here, and nothing refuses that.
        assert!(calls.made.len() >= 2 && calls.made.len() < 10 && calls.refused.is_empty(), "{calls:?}");
    }

    #[test]
    fn a_call_that_a_filter_refuses_is_told_from_one_that_is_made() {
        let mut calls = Calls::default();
        [(1, 5), (2, -1), (3, -2), (3, -1)].into_iter().for_each(|call| calls.note(call));
        assert_eq!(calls, Calls { made: [1, 3].into(), refused: [2, 3].into() });
    }

    #[test]
    fn a_thread_that_is_not_there_is_an_error() {
        let mut gone = Command::new("true").spawn().unwrap();
        let thread = Thread {
            id: gone.id().cast_signed(),
            name: "gone".to_owned(),
            mode: "0".to_owned(),
            filters: 0,
            no_new_privileges: "0".to_owned(),
            descriptors: Ok(Vec::new()),
        };
        gone.wait().unwrap();
        Trace::start([&thread].into_iter()).unwrap().end().unwrap_err();
    }
}
