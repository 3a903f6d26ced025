//! System calls, by seccomp: what is taken from every thread of the process, and what is left to a media thread. What is refused
//! fails with EPERM, which ends no call.

use std::{
    collections::BTreeMap,
    os::fd::{AsRawFd as _, BorrowedFd},
};

use rustix::{
    fs::{MemfdFlags, Mode, OFlags, memfd_create, open},
    io::Errno,
};
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen::Dword, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, apply_filter, sock_filter,
};

use super::{Measure, Missing};

/// A call's name and number.
type Call = (&'static str, libc::c_long);

macro_rules! calls {
    ($($name:ident,)*) => { [$((stringify!($name), libc::$name)),*] };
}

/// Calls that no thread makes once the server has begun: it starts no program and no process, keeps no file in memory, looks
/// into no other process, and leaves the machine as it is. Others have conditions (`rules_of_process`).
const TAKEN: [Call; 66] = calls![
    // Programs, and files that are nowhere.
    SYS_execve,
    SYS_execveat,
    SYS_memfd_create,
    SYS_memfd_secret,
    // Other processes, and memory and messages that are shared with them.
    SYS_ptrace,
    SYS_process_vm_readv,
    SYS_process_vm_writev,
    SYS_process_madvise,
    SYS_process_mrelease,
    SYS_pidfd_getfd,
    SYS_kcmp,
    SYS_shmget,
    SYS_shmat,
    SYS_msgget,
    SYS_semget,
    SYS_mq_open,
    SYS_userfaultfd,
    // Memory may not be given back to swap; `prctl` has a condition.
    SYS_munlock,
    SYS_munlockall,
    // Ways into the kernel by which system calls are made unseen, or code is given to it.
    SYS_io_uring_setup,
    SYS_io_uring_enter,
    SYS_io_uring_register,
    SYS_perf_event_open,
    SYS_init_module,
    SYS_finit_module,
    SYS_delete_module,
    SYS_kexec_load,
    SYS_kexec_file_load,
    SYS_pkey_mprotect,
    SYS_personality,
    SYS_lookup_dcookie,
    // Its keyrings.
    SYS_add_key,
    SYS_request_key,
    SYS_keyctl,
    // File systems and namespaces.
    SYS_mount,
    SYS_umount2,
    SYS_move_mount,
    SYS_mount_setattr,
    SYS_open_tree,
    SYS_fsopen,
    SYS_fsconfig,
    SYS_fsmount,
    SYS_fspick,
    SYS_pivot_root,
    SYS_chroot,
    SYS_unshare,
    SYS_setns,
    SYS_open_by_handle_at,
    SYS_name_to_handle_at,
    SYS_fanotify_init,
    SYS_mknodat,
    SYS_quotactl,
    SYS_quotactl_fd,
    SYS_acct,
    SYS_swapon,
    SYS_swapoff,
    // The machine.
    SYS_reboot,
    SYS_syslog,
    SYS_vhangup,
    SYS_sethostname,
    SYS_setdomainname,
    SYS_settimeofday,
    SYS_clock_settime,
    SYS_clock_adjtime,
    SYS_adjtimex,
    SYS_nfsservctl,
];

/// Further ones that only older processors' numbering has.
#[cfg(target_arch = "x86_64")]
const TAKEN_HERE: [Call; 8] =
    calls![SYS_fork, SYS_vfork, SYS_mknod, SYS_uselib, SYS_modify_ldt, SYS_iopl, SYS_ioperm, SYS__sysctl,];
#[cfg(not(target_arch = "x86_64"))]
const TAKEN_HERE: [Call; 0] = [];

/// From here on x86-64 counts its calls once more, for programs with pointers of 32 bits; none is made by us.
#[cfg(target_arch = "x86_64")]
const SECOND_NUMBERS: Option<u32> = Some(0x4000_0000);
#[cfg(not(target_arch = "x86_64"))]
const SECOND_NUMBERS: Option<u32> = None;

/// Calls that a media thread may make with any arguments.
const FREE: [Call; 21] = calls![
    // The loop: wait, receive, send. Neither of the latter two knows anything but sockets.
    SYS_epoll_pwait2,
    // ... where the kernel is older than 5.11.
    SYS_epoll_pwait,
    SYS_recvfrom,
    SYS_sendto,
    // What the network says of packets that were sent (`media_io::icmp`).
    SYS_recvmsg,
    // A leg opens: its sockets join the set. `socket` and `setsockopt` have conditions below.
    SYS_bind,
    SYS_epoll_ctl,
    // A leg has found its peer, or lost it.
    SYS_connect,
    // The CPU time that the metrics show; other clocks need no call.
    SYS_clock_gettime,
    // Memory of the two allocators, ours and that of libraries in C. `mmap` and `mprotect` have conditions below.
    SYS_munmap,
    SYS_mremap,
    SYS_madvise,
    SYS_brk,
    // Their locks, and those of the standard library.
    SYS_futex,
    SYS_sched_yield,
    // Seeds of hash tables.
    SYS_getrandom,
    // Signals that happen to reach this thread, and calls that they interrupt.
    SYS_rt_sigreturn,
    SYS_rt_sigprocmask,
    SYS_restart_syscall,
    // The end of the thread.
    SYS_sigaltstack,
    SYS_exit,
];

/// Calls that it may make with some (`rules_of_media`).
const CONDITIONAL: [Call; 7] =
    calls![SYS_read, SYS_close, SYS_socket, SYS_setsockopt, SYS_mmap, SYS_mprotect, SYS_rt_sigaction,];

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

/// The names of all that is left to a media thread, by number.
pub fn left_to_media() -> BTreeMap<i64, &'static str> {
    let name = |(name, number): Call| (number, name.trim_start_matches("SYS_"));
    FREE.into_iter().chain(CONDITIONAL).map(name).collect()
}

/// Takes from the calling thread, and from those that it starts, what no thread of the server needs. `has_card`: AF_XDP, whose
/// program is loaded later.
pub(super) fn confine_process(has_card: bool) -> Result<(), Missing> {
    let measure = Measure::Calls;
    let of_process = rules_of_process(has_card).and_then(|rules| program(rules, SeccompAction::Allow, refusal()));
    let mut of_process = of_process.map_err(|e| no_filter(measure, &e))?;
    of_process.splice(0..0, SECOND_NUMBERS.into_iter().flat_map(refuse_from));
    // Its arguments lie in memory, where no filter sees them. The C library then makes threads by `clone`.
    let absent = SeccompAction::Errno(Errno::NOSYS.raw_os_error().cast_unsigned());
    let of_clone3 = program([(libc::SYS_clone3, Vec::new())].into(), SeccompAction::Allow, absent);
    let of_clone3 = of_clone3.map_err(|e| no_filter(measure, &e))?;
    for program in [of_process, of_clone3] {
        apply_filter(&program).map_err(|e| missing(measure, format!("system calls cannot be filtered: {e}")))?;
    }
    match memfd_create("ringdown", MemfdFlags::CLOEXEC) {
        Err(Errno::PERM) => Ok(()),
        Ok(_) | Err(_) => Err(missing(measure, "the filter is in force and a file in memory can be made".to_owned())),
    }
}

/// Leaves the calling thread the calls of [`FREE`], sockets for UDP, memory without code, and reading from `reads`.
pub(super) fn confine(reads: BorrowedFd<'_>) -> Result<(), Missing> {
    let measure = Measure::MediaCalls;
    let program = rules_of_media(reads).and_then(|rules| program(rules, refusal(), SeccompAction::Allow));
    let program = program.map_err(|e| no_filter(measure, &e))?;
    apply_filter(&program).map_err(|e| missing(measure, format!("system calls cannot be filtered: {e}")))?;
    match open(FOREIGN, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) {
        Err(Errno::PERM) => Ok(()),
        Ok(_) | Err(_) => {
            Err(missing(measure, "the filter is in force and a file can be opened all the same".to_owned()))
        }
    }
}

fn missing(measure: Measure, cause: String) -> Missing {
    Missing {
        measure,
        cause,
        remedy: "Needed: a kernel with seccomp filters (CONFIG_SECCOMP_FILTER), and a container that allows seccomp",
    }
}

fn no_filter(measure: Measure, error: &BackendError) -> Missing {
    missing(measure, format!("there is no filter for this processor: {error}"))
}

fn refusal() -> SeccompAction {
    SeccompAction::Errno(Errno::PERM.raw_os_error().cast_unsigned())
}

/// `others`: what becomes of calls that no rule matches.
fn program(
    rules: BTreeMap<i64, Vec<SeccompRule>>,
    others: SeccompAction,
    matching: SeccompAction,
) -> Result<BpfProgram, BackendError> {
    let arch = std::env::consts::ARCH.try_into()?;
    SeccompFilter::new(rules, others, matching, arch)?.try_into()
}

/// Instructions to stand before a program: calls with this number or a higher one are refused.
fn refuse_from(first: u32) -> [sock_filter; 3] {
    // linux/bpf_common.h; the number stands at the beginning of what is looked at (linux/seccomp.h).
    const LOAD_WORD: u16 = 0x20;
    const IF_GREATER_OR_EQUAL: u16 = 0x35;
    const RETURN: u16 = 0x06;
    let refusal = libc::SECCOMP_RET_ERRNO | Errno::PERM.raw_os_error().cast_unsigned();
    [
        sock_filter { code: LOAD_WORD, jt: 0, jf: 0, k: 0 },
        sock_filter { code: IF_GREATER_OR_EQUAL, jt: 0, jf: 1, k: first },
        sock_filter { code: RETURN, jt: 0, jf: 0, k: refusal },
    ]
}

/// What is refused.
fn rules_of_process(has_card: bool) -> Result<BTreeMap<i64, Vec<SeccompRule>>, BackendError> {
    let taken = TAKEN.into_iter().chain(TAKEN_HERE).map(|(_, number)| number);
    let bpf = (!has_card).then_some(libc::SYS_bpf);
    let mut rules: BTreeMap<_, _> = taken.chain(bpf).map(|call| (call, Vec::new())).collect();
    let families = [libc::AF_INET, libc::AF_INET6, libc::AF_UNIX, libc::AF_NETLINK];
    let families = families.into_iter().chain(has_card.then_some(libc::AF_XDP));
    let code = masked(2, libc::PROT_EXEC, libc::PROT_EXEC)?;
    let conditional = [
        // Threads are made by it, too.
        (libc::SYS_clone, vec![masked(0, libc::CLONE_THREAD, 0)?]),
        // No packets of others, no encryption by the kernel, no machine above or beside this one.
        (libc::SYS_socket, families.map(|family| different(0, family)).collect::<Result<_, _>>()?),
        // Nothing becomes code any more, whether it is read or received.
        (libc::SYS_mmap, vec![code.clone()]),
        (libc::SYS_mprotect, vec![code]),
        // An image of the memory may be made again.
        (libc::SYS_prctl, vec![equal(0, libc::PR_SET_DUMPABLE)?]),
    ];
    for (call, conditions) in conditional {
        rules.insert(call, vec![SeccompRule::new(conditions)?]);
    }
    Ok(rules)
}

/// What is allowed.
fn rules_of_media(reads: BorrowedFd<'_>) -> Result<BTreeMap<i64, Vec<SeccompRule>>, BackendError> {
    let wake = reads.as_raw_fd();
    let mut rules: BTreeMap<_, _> = FREE.into_iter().map(|(_, call)| (call, Vec::new())).collect();
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
    let program = program([(call, Vec::new())].into(), SeccompAction::Allow, answer).unwrap();
    apply_filter(&program).unwrap();
}

#[cfg(test)]
#[expect(unsafe_code, reason = "calls that no safe function makes are tried by number")]
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

    /// A call with six arguments that lead nowhere.
    fn raw(call: libc::c_long, first: libc::c_long) -> Errno {
        // SAFETY: under the filter of the tests below every one of these is refused before it looks at its arguments; and -1 is
        // the address of nothing, so that none would find anything to change.
        let result = unsafe { libc::syscall(call, first, -1_i64, -1_i64, -1_i64, -1_i64, -1_i64) };
        assert_eq!(result, -1, "call {call} is not refused");
        Errno::from_io_error(&std::io::Error::last_os_error()).unwrap()
    }

    /// On a thread of its own under the filter of the process.
    fn with_filter_of_process<T: Send + 'static>(has_card: bool, act: impl FnOnce() -> T + Send + 'static) -> T {
        let thread = std::thread::spawn(move || {
            confine_process(has_card).expect("a kernel with seccomp");
            act()
        });
        thread.join().unwrap()
    }

    #[test]
    fn every_call_that_the_server_does_without_is_refused_under_each_of_its_numbers() {
        with_filter_of_process(false, || {
            for (name, call) in TAKEN.into_iter().chain(TAKEN_HERE).chain(calls![SYS_bpf,]) {
                assert_eq!(raw(call, -1), Errno::PERM, "{name}");
                if let Some(second) = SECOND_NUMBERS {
                    assert_eq!(raw(call + libc::c_long::from(second), -1), Errno::PERM, "{name} by its second number");
                }
            }
            // A process; a thread is made below.
            assert_eq!(raw(libc::SYS_clone, libc::SIGCHLD.into()), Errno::PERM);
            assert_eq!(raw(libc::SYS_clone3, -1), Errno::NOSYS);
            // Memory with code in it, new or not.
            assert_eq!(raw(libc::SYS_mmap, 0), Errno::PERM);
            assert_eq!(raw(libc::SYS_mprotect, 0), Errno::PERM);
            assert_eq!(raw(libc::SYS_prctl, libc::PR_SET_DUMPABLE.into()), Errno::PERM);
            for family in [libc::AF_PACKET, libc::AF_ALG, libc::AF_VSOCK, libc::AF_XDP] {
                assert_eq!(raw(libc::SYS_socket, family.into()), Errno::PERM, "{family}");
            }
        });
        let of_card =
            with_filter_of_process(true, || [raw(libc::SYS_bpf, -1), raw(libc::SYS_socket, libc::AF_XDP.into())]);
        assert!(!of_card.contains(&Errno::PERM), "{of_card:?}");
    }

    #[test]
    fn threads_sockets_and_memory_are_left_to_the_process_and_media_threads_can_still_be_confined() {
        with_filter_of_process(false, || {
            std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            std::os::unix::net::UnixStream::pair().unwrap();
            assert_eq!(vec![7_u8; 8 << 20].iter().map(|byte| usize::from(*byte)).sum::<usize>(), 7 * (8 << 20));
            assert_eq!(confined(|wake| read(wake, &mut [0; 8])), Ok(8));
        });
    }

    #[test]
    fn names_are_those_of_the_calls_that_a_media_thread_is_left() {
        let wake = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
        let rules = rules_of_media(wake.as_fd()).unwrap();
        assert!(left_to_media().keys().eq(rules.keys()));
        assert_eq!(left_to_media()[&libc::SYS_recvfrom], "recvfrom");
    }
}
