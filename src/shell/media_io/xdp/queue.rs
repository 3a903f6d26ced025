//! One queue of a network card, read and written without the kernel's network stack (AF_XDP): memory for packets, shared
//! with the kernel, and the four rings by which its frames change hands. All that is unsafe about it is in this file.
//!
//! Each [`Frame`] is in one place at a time: free, with the kernel for a packet to come (fill), received, with the kernel
//! to be sent (transmit) or sent and waiting to be taken back (completion). Every ring has room for all frames, so none
//! ever overflows.
#![expect(unsafe_code, reason = "memory is shared with the kernel, which no type can say")]

use std::{
    ffi::c_void,
    marker::PhantomData,
    ops::Range,
    os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd},
    ptr::NonNull,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use rustix::{
    io::{Errno, Result, retry_on_intr},
    mm::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap},
    net::{
        AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, send, socket_with, sockopt,
        xdp::{
            SocketAddrXdp, SocketAddrXdpFlags, XDP_PGOFF_RX_RING, XDP_PGOFF_TX_RING, XDP_UMEM_PGOFF_COMPLETION_RING,
            XDP_UMEM_PGOFF_FILL_RING, XdpDesc, XdpDescOptions, XdpOptionsFlags, XdpRingOffset, XdpUmemReg,
            XdpUmemRegFlags,
        },
    },
};
use zeroize::Zeroize as _;

use crate::types::Duration;

use super::bpf::Mode;

/// A page: what the kernel hands out at most. It leaves 256 bytes in front of a packet, in which longer headers find room.
pub(super) const FRAME_BYTES: usize = 4_096;
/// Of one queue, 16 MiB: 40 ms of the packets of 2,000 calls. A power of two, as rings must be.
const FRAMES: u32 = 4_096;
/// Frames that wait for packets; the others are on their way out, or carry packets that came through a socket.
const FILL_MAX: u32 = FRAMES / 2;
/// The kernel takes so many packets in a call where the driver cannot read our memory.
const KICKS_MAX: usize = 4;
/// Packets that the kernel looks for in the card in one busy poll.
const BUSY_POLL_BUDGET: libc::c_int = 64;
/// `linux/socket.h`; libc has no names for them here.
const SO_BUSY_POLL: libc::c_int = 46;
const SO_PREFER_BUSY_POLL: libc::c_int = 69;
const SO_BUSY_POLL_BUDGET: libc::c_int = 70;
/// Bit of a ring's flags: the kernel sleeps and must be called.
const NEEDS_WAKEUP: u32 = 1;

/// A frame that is ours. Whoever holds it may read and write its bytes.
#[derive(Debug)]
pub(super) struct Frame(u32);

/// The socket of a queue.
pub(in super::super) struct Queue {
    socket: Arc<OwnedFd>,
    memory: Mapping,
    fill: Producer<u64>,
    completion: Consumer<u64>,
    received: Consumer<XdpDesc>,
    transmit: Producer<XdpDesc>,
    free: Vec<Frame>,
    /// Frames that wait for packets.
    filled: u32,
    /// By frame: what it carries is wiped once it has left.
    is_plain: Vec<bool>,
    /// Whether the driver reads and writes our memory itself.
    is_zero_copy: bool,
}

impl Queue {
    /// A socket with its memory and rings, bound to nothing yet.
    pub(super) fn new() -> Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = Arc::new(socket_with(AddressFamily::XDP, SocketType::RAW, flags, None)?);
        let bytes = FRAMES as usize * FRAME_BYTES;
        let memory = Mapping::anonymous(bytes)?;
        let area = XdpUmemReg {
            addr: memory.start.as_ptr().expose_provenance() as u64,
            len: bytes as u64,
            chunk_size: u32::try_from(FRAME_BYTES).expect("a page is small"),
            headroom: 0,
            flags: XdpUmemRegFlags::empty(),
            tx_metadata_len: 0,
        };
        sockopt::set_xdp_umem_reg(&socket, area)?;
        sockopt::set_xdp_umem_fill_ring_size(&socket, FRAMES)?;
        sockopt::set_xdp_umem_completion_ring_size(&socket, FRAMES)?;
        sockopt::set_xdp_rx_ring_size(&socket, FRAMES)?;
        sockopt::set_xdp_tx_ring_size(&socket, FRAMES)?;
        let offsets = sockopt::xdp_mmap_offsets(&socket)?;
        let mut queue = Self {
            fill: Producer(Ring::map(&socket, &offsets.fr, XDP_UMEM_PGOFF_FILL_RING)?),
            completion: Consumer(Ring::map(&socket, &offsets.cr, XDP_UMEM_PGOFF_COMPLETION_RING)?),
            received: Consumer(Ring::map(&socket, &offsets.rx, XDP_PGOFF_RX_RING)?),
            transmit: Producer(Ring::map(&socket, &offsets.tx, XDP_PGOFF_TX_RING)?),
            socket,
            memory,
            free: (0..FRAMES).map(Frame).collect(),
            filled: 0,
            is_plain: vec![false; FRAMES as usize],
            is_zero_copy: false,
        };
        queue.refill();
        Ok(queue)
    }

    /// The kernel may now put packets of this queue of this interface in. The driver copies where it cannot do without.
    pub(super) fn bind(&mut self, interface: u32, queue: u32, mode: Mode) -> Result<()> {
        let copies = match mode {
            Mode::Native => SocketAddrXdpFlags::empty(),
            Mode::Generic => SocketAddrXdpFlags::XDP_COPY,
        };
        let flags = SocketAddrXdpFlags::XDP_USE_NEED_WAKEUP | copies;
        bind(&self.socket, &SocketAddrXdp::new(flags, interface, queue))?;
        self.is_zero_copy = sockopt::xdp_options(&self.socket)?.contains(XdpOptionsFlags::XDP_OPTIONS_ZEROCOPY);
        Ok(())
    }

    /// The kernel looks for packets when it is called and leaves interrupts off meanwhile (Linux 5.11). What cannot be set
    /// costs speed only.
    pub(super) fn prefer_busy_poll(&self, time: Duration) {
        let time = libc::c_int::try_from(time.as_micros()).unwrap_or(libc::c_int::MAX);
        for (option, value) in [(SO_PREFER_BUSY_POLL, 1), (SO_BUSY_POLL, time), (SO_BUSY_POLL_BUDGET, BUSY_POLL_BUDGET)]
        {
            // SAFETY: the option's value is a live integer of the size that is given.
            unsafe {
                libc::setsockopt(
                    self.socket.as_raw_fd(),
                    libc::SOL_SOCKET,
                    option,
                    (&raw const value).cast(),
                    libc::socklen_t::try_from(size_of::<libc::c_int>()).expect("four"),
                );
            }
        }
    }

    /// A clone is the same one.
    pub(super) fn socket(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.socket)
    }

    pub(super) const fn is_zero_copy(&self) -> bool {
        self.is_zero_copy
    }

    /// The next packet, and where it lies in its frame.
    pub(super) fn receive(&mut self) -> Option<(Frame, Range<usize>)> {
        loop {
            let XdpDesc { addr, len, .. } = self.received.pop()?;
            self.filled = self.filled.saturating_sub(1);
            // The kernel hands back only what it was given; a place outside is skipped all the same.
            let Some(frame) = frame_of(addr) else { continue };
            let start = usize::try_from(addr).map_or(0, |addr| addr % FRAME_BYTES);
            let end = start.saturating_add(len as usize);
            if end <= FRAME_BYTES {
                return Some((frame, start..end));
            }
            self.free.push(frame);
        }
    }

    /// Whether there is a packet to receive.
    pub(super) fn has_received(&self) -> bool {
        self.received.0.available() > 0
    }

    /// A frame for a packet that did not come in one.
    pub(super) fn take(&mut self) -> Option<Frame> {
        self.free.pop()
    }

    pub(super) fn bytes(&mut self, frame: &Frame) -> &mut [u8; FRAME_BYTES] {
        let offset = frame.0 as usize * FRAME_BYTES;
        // SAFETY: a frame's number is below FRAMES, so these bytes lie within the mapping, which lives as long as `self`; they
        // are initialised, since the kernel gives zeroed pages. Nobody else has them: the frame is ours and not the
        // kernel's while it exists as a value (it is given away by value), there is one for each number, and the
        // reference borrows `self` as a whole.
        unsafe { self.memory.start.byte_add(offset).cast().as_mut() }
    }

    /// Gives a frame back that is not sent.
    pub(super) fn release(&mut self, frame: Frame) {
        self.free.push(frame);
    }

    /// Puts a packet ready; [`Queue::kick`] sends it.
    pub(super) fn send(&mut self, frame: Frame, place: Range<usize>, is_plain: bool) {
        self.is_plain[frame.0 as usize] = is_plain;
        let addr = u64::from(frame.0) * FRAME_BYTES as u64 + place.start as u64;
        let len = u32::try_from(place.len()).expect("within a page");
        self.transmit.push(XdpDesc { addr, len, options: XdpDescOptions::empty() });
    }

    /// Has the kernel send what is ready, takes back what has left, and hands frames out for packets to come.
    pub(super) fn kick(&mut self) {
        for _ in 0..KICKS_MAX {
            if !self.is_sending() || !self.transmit.0.needs_wakeup() {
                break;
            }
            // That it is busy, or has no buffers, changes nothing: it is called again.
            let _ = retry_on_intr(|| send(&self.socket, &[], SendFlags::DONTWAIT));
        }
        self.reclaim();
        self.refill();
    }

    /// Packets are ready that the kernel has not taken.
    pub(super) fn is_sending(&self) -> bool {
        self.transmit.0.available() > 0
    }

    /// Has the kernel look for packets: where it waits for that, or (`is_busy`) in any case.
    pub(super) fn poll(&self, is_busy: bool) {
        if is_busy || self.fill.0.needs_wakeup() {
            let _ = recv(&self.socket, &mut [0; 0], RecvFlags::DONTWAIT);
        }
    }

    fn reclaim(&mut self) {
        while let Some(addr) = self.completion.pop() {
            let Some(frame) = frame_of(addr) else { continue };
            if std::mem::take(&mut self.is_plain[frame.0 as usize]) {
                self.bytes(&frame).fill(0);
            }
            self.free.push(frame);
        }
    }

    fn refill(&mut self) {
        while self.filled < FILL_MAX {
            let Some(Frame(number)) = self.free.pop() else { break };
            self.fill.push(u64::from(number) * FRAME_BYTES as u64);
            self.filled += 1;
        }
    }
}

impl AsFd for Queue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue").field("is_zero_copy", &self.is_zero_copy).finish_non_exhaustive()
    }
}

impl Drop for Queue {
    /// Whatever the last packets carried.
    fn drop(&mut self) {
        for number in 0..FRAMES {
            self.bytes(&Frame(number)).zeroize();
        }
    }
}

/// The frame in which a place of the memory lies.
fn frame_of(addr: u64) -> Option<Frame> {
    let number = u32::try_from(addr / FRAME_BYTES as u64).ok()?;
    (number < FRAMES).then_some(Frame(number))
}

/// Memory of this process, given back when it is dropped.
struct Mapping {
    start: NonNull<c_void>,
    bytes: usize,
}

// SAFETY: memory of the process as a whole; whoever has the value has it alone.
unsafe impl Send for Mapping {}

impl Mapping {
    fn anonymous(bytes: usize) -> Result<Self> {
        let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE | MapFlags::POPULATE);
        // SAFETY: a new mapping at a place of the kernel's choice disturbs no other.
        let start = unsafe { mmap_anonymous(std::ptr::null_mut(), bytes, protection, flags) }?;
        Self::at(start, bytes)
    }

    fn of_socket(socket: &OwnedFd, bytes: usize, offset: u64) -> Result<Self> {
        let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED | MapFlags::POPULATE);
        // SAFETY: as above.
        let start = unsafe { mmap(std::ptr::null_mut(), bytes, protection, flags, socket, offset) }?;
        Self::at(start, bytes)
    }

    fn at(start: *mut c_void, bytes: usize) -> Result<Self> {
        Ok(Self { start: NonNull::new(start).ok_or(Errno::NOMEM)?, bytes })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and no reference into it outlives this value.
        let _ = unsafe { munmap(self.start.as_ptr(), self.bytes) };
    }
}

/// A ring of [`FRAMES`] entries between the kernel and us; each side counts, with wrapping, what it has put in or taken out.
struct Ring<T> {
    mapping: Mapping,
    /// Where in the mapping.
    producer: usize,
    consumer: usize,
    flags: usize,
    entries: usize,
    /// What our side has counted.
    own: u32,
    _entries: PhantomData<T>,
}

impl<T: Copy> Ring<T> {
    fn map(socket: &OwnedFd, offsets: &XdpRingOffset, area: u64) -> Result<Self> {
        let place = |offset: u64, align: usize| {
            usize::try_from(offset).ok().filter(|offset| offset.is_multiple_of(align)).ok_or(Errno::INVAL)
        };
        let entries = place(offsets.desc, align_of::<T>())?;
        let bytes = entries + FRAMES as usize * size_of::<T>();
        let counter = |offset: u64| {
            let is_inside = |place: &usize| place + size_of::<u32>() <= entries;
            Some(place(offset, align_of::<u32>())?).filter(is_inside).ok_or(Errno::INVAL)
        };
        Ok(Self {
            producer: counter(offsets.producer)?,
            consumer: counter(offsets.consumer)?,
            // Linux 5.4 has them, and so need_wakeup.
            flags: counter(offsets.flags.ok_or(Errno::NOSYS)?)?,
            mapping: Mapping::of_socket(socket, bytes, area)?,
            entries,
            own: 0,
            _entries: PhantomData,
        })
    }

    /// Entries that the kernel has given to a consumer, or not yet taken from a producer.
    fn available(&self) -> u32 {
        self.counter(self.producer)
            .load(Ordering::Acquire)
            .wrapping_sub(self.counter(self.consumer).load(Ordering::Acquire))
    }

    fn needs_wakeup(&self) -> bool {
        self.counter(self.flags).load(Ordering::Relaxed) & NEEDS_WAKEUP != 0
    }

    fn counter(&self, place: usize) -> &AtomicU32 {
        // SAFETY: `map` has found the place aligned and before the entries, within the mapping, which lives as long as `self`.
        // The kernel and we touch it by atomic operations only.
        unsafe { self.mapping.start.byte_add(place).cast().as_ref() }
    }

    /// Where the entry with this count lies: always within the mapping, whatever the count.
    fn entry(&self, count: u32) -> NonNull<T> {
        let index = (count & (FRAMES - 1)) as usize;
        // SAFETY: `map` has made the mapping as large as all entries need, from an aligned place on.
        unsafe { self.mapping.start.byte_add(self.entries + index * size_of::<T>()).cast() }
    }
}

/// A ring that we put into.
struct Producer<T>(Ring<T>);

impl<T: Copy> Producer<T> {
    /// There is room: a ring has as many entries as there are frames.
    fn push(&mut self, value: T) {
        let Ring { own, .. } = self.0;
        // SAFETY: the entry lies within the mapping and is aligned; the kernel does not look at it before the count below
        // says so.
        unsafe { self.0.entry(own).write_volatile(value) };
        self.0.own = own.wrapping_add(1);
        self.0.counter(self.0.producer).store(self.0.own, Ordering::Release);
    }
}

/// A ring that we take from.
struct Consumer<T>(Ring<T>);

impl<T: Copy> Consumer<T> {
    fn pop(&mut self) -> Option<T> {
        let Ring { own, .. } = self.0;
        if self.0.counter(self.0.producer).load(Ordering::Acquire) == own {
            return None;
        }
        // SAFETY: the entry lies within the mapping and is aligned, and all its bits are values of T, which is made of
        // integers; the kernel wrote it before it counted and leaves it alone until we have.
        let value = unsafe { self.0.entry(own).read_volatile() };
        self.0.own = own.wrapping_add(1);
        self.0.counter(self.0.consumer).store(self.0.own, Ordering::Release);
        Some(value)
    }
}

/// Why a queue cannot be had, and what can be done.
pub(super) fn explain(error: Errno) -> (&'static str, &'static str) {
    match error {
        Errno::AFNOSUPPORT => ("the kernel has no AF_XDP", "Boot a kernel with CONFIG_XDP_SOCKETS"),
        Errno::PERM | Errno::ACCESS => ("AF_XDP is not permitted", "Grant CAP_NET_RAW"),
        Errno::NOBUFS | Errno::NOMEM => (
            "the memory for packets cannot be had",
            "16 MiB for each queue are locked: lift RLIMIT_MEMLOCK (LimitMEMLOCK=infinity) or grant CAP_IPC_LOCK",
        ),
        Errno::BUSY => ("another program reads the queue", "End it, or name another queue in media.xdp_queues"),
        Errno::INVAL => {
            ("there is no such queue", "Name queues of the interface in media.xdp_queues: `ethtool -l` counts them")
        }
        _ => ("the queue cannot be had", "See the error"),
    }
}
