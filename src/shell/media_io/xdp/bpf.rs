//! bpf(2): the map of sockets, and the program on its interface. No crate in between, since those that load programs read
//! them from object files, which a compiler must have made.
#![expect(unsafe_code, reason = "bpf(2) is reached by no safe function")]

use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};

use rustix::io::{Errno, Result};

use super::program::Instruction;

/// Commands, types and flags of `linux/bpf.h` and `linux/if_link.h`.
const BPF_MAP_CREATE: libc::c_int = 0;
const BPF_MAP_UPDATE_ELEM: libc::c_int = 2;
const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_LINK_CREATE: libc::c_int = 28;
const BPF_MAP_TYPE_XSKMAP: u32 = 17;
const BPF_PROG_TYPE_XDP: u32 = 6;
const BPF_XDP: u32 = 37;
const XDP_FLAGS_SKB_MODE: u32 = 1 << 1;
const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;

/// Where the program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Mode {
    /// In the driver.
    Native,
    /// In the kernel's stack, for drivers that cannot.
    Generic,
}

/// `union bpf_attr`, the part that each command reads; the kernel takes shorter ones than its own.
#[repr(C)]
#[derive(Default)]
struct MapCreate {
    map_type: u32,
    key_bytes: u32,
    value_bytes: u32,
    entries_max: u32,
}

#[repr(C)]
#[derive(Default)]
struct MapUpdate {
    map: u32,
    /// What follows is aligned to 8 bytes.
    gap: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
#[derive(Default)]
struct ProgramLoad {
    program_type: u32,
    instructions_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_bytes: u32,
    log: u64,
}

#[repr(C)]
#[derive(Default)]
struct LinkCreate {
    program: u32,
    interface: u32,
    attach_type: u32,
    flags: u32,
}

/// A map from queues to sockets; what has no entry goes to the kernel.
pub(super) fn create_socket_map(queues: u32) -> Result<OwnedFd> {
    let request = MapCreate { map_type: BPF_MAP_TYPE_XSKMAP, key_bytes: 4, value_bytes: 4, entries_max: queues };
    descriptor(BPF_MAP_CREATE, &request)
}

pub(super) fn set_socket(map: BorrowedFd<'_>, queue: u32, socket: BorrowedFd<'_>) -> Result<()> {
    let value = number(socket.as_raw_fd());
    let request = MapUpdate {
        map: number(map.as_raw_fd()),
        key: address(&raw const queue),
        value: address(&raw const value),
        ..MapUpdate::default()
    };
    call(BPF_MAP_UPDATE_ELEM, &request).map(drop)
}

/// The kernel's verifier proves that the program ends and looks at nothing beyond its frame.
pub(super) fn load(program: &[Instruction]) -> Result<OwnedFd> {
    let request = ProgramLoad {
        program_type: BPF_PROG_TYPE_XDP,
        instructions_count: u32::try_from(program.len()).expect("the program is short"),
        instructions: address(program.as_ptr()),
        license: address(c"MIT OR Apache-2.0".as_ptr()),
        ..ProgramLoad::default()
    };
    descriptor(BPF_PROG_LOAD, &request)
}

/// The program runs until the descriptor is closed, also by the end of the process.
///
/// # Errors
/// EBUSY: there is one already. EOPNOTSUPP: not in this mode.
pub(super) fn attach(program: BorrowedFd<'_>, interface: u32, mode: Mode) -> Result<OwnedFd> {
    let request = LinkCreate {
        program: number(program.as_raw_fd()),
        interface,
        attach_type: BPF_XDP,
        flags: match mode {
            Mode::Native => XDP_FLAGS_DRV_MODE,
            Mode::Generic => XDP_FLAGS_SKB_MODE,
        },
    };
    descriptor(BPF_LINK_CREATE, &request)
}

fn number(descriptor: RawFd) -> u32 {
    descriptor.cast_unsigned()
}

fn address<T>(pointer: *const T) -> u64 {
    pointer.expose_provenance() as u64
}

fn descriptor<T>(command: libc::c_int, request: &T) -> Result<OwnedFd> {
    let fd = call(command, request)?;
    // SAFETY: the kernel has just made this descriptor for us alone (close-on-exec, as all of bpf(2)).
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn call<T>(command: libc::c_int, request: &T) -> Result<RawFd> {
    // SAFETY: the request is a live structure of the size that is given, without uninitialised bytes, and what it points to
    // outlives the call, which only reads it.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(request), size_of::<T>()) };
    let error = || std::io::Error::last_os_error().raw_os_error().map_or(Errno::IO, Errno::from_raw_os_error);
    RawFd::try_from(result).ok().filter(|fd| *fd >= 0).ok_or_else(error)
}
