//! System calls, by seccomp: what is left to a media thread. Everything else fails with EPERM, which ends no call.

use std::{
    collections::BTreeMap,
    os::fd::{AsRawFd as _, BorrowedFd},
};

use rustix::{
    fs::{Mode, OFlags, open},
    io::Errno,
};
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen::Dword, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, apply_filter,
};

use super::{Measure, Missing};

/// Calls that a media thread may make with any arguments.
const FREE: [libc::c_long; 21] = [
    // The loop: wait, receive, send. Neither of the latter two knows anything but sockets.
    libc::SYS_epoll_pwait2,
    // ... where the kernel is older than 5.11.
    libc::SYS_epoll_pwait,
    libc::SYS_recvfrom,
    libc::SYS_sendto,
    // What the network says of packets that were sent (`media_io::icmp`).
    libc::SYS_recvmsg,
    // A leg opens: its sockets join the set. `socket` and `setsockopt` have conditions below.
    libc::SYS_bind,
    libc::SYS_epoll_ctl,
    // A leg has found its peer, or lost it.
    libc::SYS_connect,
    // The CPU time that the metrics show; other clocks need no call.
    libc::SYS_clock_gettime,
    // Memory of the two allocators, ours and that of libraries in C. `mmap` and `mprotect` have conditions below.
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_brk,
    // Their locks, and those of the standard library.
    libc::SYS_futex,
    libc::SYS_sched_yield,
    // Seeds of hash tables.
    libc::SYS_getrandom,
    // Signals that happen to reach this thread, and calls that they interrupt.
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigprocmask,
    libc::SYS_restart_syscall,
    // The end of the thread.
    libc::SYS_sigaltstack,
    libc::SYS_exit,
];

/// Level and name of what a leg sets on its sockets: buffer, family, code point, errors of the path and its packet size.
const SOCKET_OPTIONS: [(libc::c_int, libc::c_int); 8] = [
    (libc::SOL_SOCKET, libc::SO_RCVBUF),
    (libc::IPPROTO_IPV6, libc::IPV6_V6ONLY),
    (libc::IPPROTO_IP, libc::IP_TOS),
    (libc::IPPROTO_IPV6, libc::IPV6_TCLASS),
    (libc::IPPROTO_IP, libc::IP_RECVERR),
    (libc::IPPROTO_IPV6, libc::IPV6_RECVERR),
    (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER),
    (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER),
];

/// What every media thread must not be able to do; the thread itself tries it before it serves.
const FOREIGN: &str = "/dev/null";

/// Leaves the calling thread the calls of [`FREE`], sockets for UDP, memory without code, and reading from `reads`.
pub(super) fn confine(reads: BorrowedFd<'_>) -> Result<(), Missing> {
    let missing = |cause: String| Missing {
        measure: Measure::MediaCalls,
        cause,
        remedy: "Needed: a kernel with seccomp filters (CONFIG_SECCOMP_FILTER), and a container that allows seccomp",
    };
    let program = program(reads).map_err(|e| missing(format!("there is no filter for this processor: {e}")))?;
    apply_filter(&program).map_err(|e| missing(format!("system calls cannot be filtered: {e}")))?;
    match open(FOREIGN, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) {
        Err(Errno::PERM) => Ok(()),
        Ok(_) | Err(_) => Err(missing("the filter is in force and a file can be opened all the same".to_owned())),
    }
}

fn program(reads: BorrowedFd<'_>) -> Result<BpfProgram, BackendError> {
    let errno = SeccompAction::Errno(Errno::PERM.raw_os_error().cast_unsigned());
    let arch = std::env::consts::ARCH.try_into()?;
    SeccompFilter::new(rules(reads)?, errno, SeccompAction::Allow, arch)?.try_into()
}

fn rules(reads: BorrowedFd<'_>) -> Result<BTreeMap<i64, Vec<SeccompRule>>, BackendError> {
    let wake = reads.as_raw_fd();
    let mut rules: BTreeMap<_, _> = FREE.into_iter().map(|call| (call, Vec::new())).collect();
    let udp = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    let without_code = masked(2, libc::PROT_EXEC, 0)?;
    let conditional = [
        // The eventfd by which the core wakes the thread. No `write`: its notices to the core go over a socket.
        (libc::SYS_read, vec![vec![equal(0, wake)?]]),
        // Sockets of a leg that ends; the eventfd stays, so that its number never means a file.
        (libc::SYS_close, vec![vec![different(0, wake)?]]),
        (
            libc::SYS_socket,
            [libc::AF_INET, libc::AF_INET6]
                .map(|family| Ok(vec![equal(0, family)?, equal(1, udp)?]))
                .into_iter()
                .collect::<Result<_, BackendError>>()?,
        ),
        (
            libc::SYS_setsockopt,
            SOCKET_OPTIONS
                .map(|(level, option)| Ok(vec![equal(1, level)?, equal(2, option)?]))
                .into_iter()
                .collect::<Result<_, BackendError>>()?,
        ),
        // Memory of the allocators: never code, and no file behind it.
        (libc::SYS_mmap, vec![vec![without_code.clone(), equal(4, -1)?]]),
        (libc::SYS_mprotect, vec![vec![without_code]]),
        // A fault ends the process: the handler of the standard library takes itself away and lets it happen again.
        (
            libc::SYS_rt_sigaction,
            [libc::SIGSEGV, libc::SIGBUS]
                .map(|signal| Ok(vec![equal(0, signal)?]))
                .into_iter()
                .collect::<Result<_, BackendError>>()?,
        ),
    ];
    for (call, alternatives) in conditional {
        rules.insert(call, alternatives.into_iter().map(SeccompRule::new).collect::<Result<_, _>>()?);
    }
    Ok(rules)
}

fn equal(argument: u8, value: libc::c_int) -> Result<SeccompCondition, BackendError> {
    condition(argument, SeccompCmpOp::Eq, value)
}

fn different(argument: u8, value: libc::c_int) -> Result<SeccompCondition, BackendError> {
    condition(argument, SeccompCmpOp::Ne, value)
}

fn masked(argument: u8, mask: libc::c_int, value: libc::c_int) -> Result<SeccompCondition, BackendError> {
    condition(argument, SeccompCmpOp::MaskedEq(mask.cast_unsigned().into()), value)
}

/// The kernel reads 32 bits of each of these arguments.
fn condition(argument: u8, operator: SeccompCmpOp, value: libc::c_int) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(argument, Dword, operator, value.cast_unsigned().into())
}

/// From now on one call fails on the calling thread as on a kernel or in a container that lacks it.
#[cfg(test)]
pub(super) fn refuse(call: libc::c_long, error: Errno) {
    let answer = SeccompAction::Errno(error.raw_os_error().cast_unsigned());
    let arch = std::env::consts::ARCH.try_into().unwrap();
    let calls = [(call, Vec::new())].into_iter().collect();
    let filter = SeccompFilter::new(calls, SeccompAction::Allow, answer, arch).unwrap();
    let program: BpfProgram = filter.try_into().unwrap();
    apply_filter(&program).unwrap();
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use rustix::{
        event::{EventfdFlags, eventfd},
        io::read,
        net::{AddressFamily, SocketFlags, SocketType, socket_with},
    };

    use super::*;

    /// What `act` returns on a thread of its own under the filter; it is given the descriptor that may be read.
    fn confined<T: Send + 'static>(act: impl FnOnce(BorrowedFd<'_>) -> T + Send + 'static) -> T {
        let thread = std::thread::spawn(|| {
            let wake = eventfd(1, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap();
            confine(wake.as_fd()).expect("a kernel with seccomp");
            act(wake.as_fd())
        });
        thread.join().unwrap()
    }

    #[test]
    fn what_the_loop_does_is_allowed() {
        let heard = confined(|wake| {
            assert_eq!(read(wake, &mut [0; 8]), Ok(8));
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            for family in [AddressFamily::INET, AddressFamily::INET6] {
                socket_with(family, SocketType::DGRAM, flags, None).unwrap();
            }
            let memory = vec![7_u8; 8 << 20];
            memory.iter().map(|byte| usize::from(*byte)).sum::<usize>()
        });
        assert_eq!(heard, 7 * (8 << 20));
    }
}
