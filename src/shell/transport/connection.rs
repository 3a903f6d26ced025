//! One TCP or TLS connection: cuts what arrives into messages, writes what is queued, and ends in one place.

use std::{
    future::poll_fn,
    io,
    mem::MaybeUninit,
    pin::Pin,
    task::{Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use rustix::net::sockopt;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf},
    net::TcpStream,
    sync::mpsc,
    time::{Instant, timeout, timeout_at},
};
use zeroize::Zeroize as _;

use crate::{
    call::Input,
    shell::core_task::ToCore,
    types::{Flow, certificate::SubjectNames, limits::STREAM_READ_BYTES_MAX},
    wire::sip::frame::{Frame, FrameError, Framer, PONG},
};

use super::{Shared, places::Place};

/// A message must be complete this long after its first byte, and the first of an accepted connection this long after
/// the connection: nobody holds a connection open by sending slowly or nothing.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(30);
/// The core hears of pings no more often than this; much less than the grace that a silent flow has.
const ALIVE_INTERVAL: Duration = Duration::from_secs(5);
/// A peer must take one message in this time.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// What is queued when a connection is closed must be taken in this time.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);
/// After our end is shut down, unread bytes are taken for this long: closing over them would make the kernel send a
/// reset, which can overtake the answer.
const LINGER: Duration = Duration::from_secs(1);
/// A peer that has vanished without a word is noticed after this time and a few probes.
const KEEP_ALIVE_IDLE: Duration = Duration::from_secs(60);
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(15);

/// A byte stream, plain or TLS.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send + Sync {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + Sync> Stream for S {}

/// A stream holds more than a kilobyte for TLS, and every function that waits with it would hold room for one.
pub(super) type BoxedStream = Box<dyn Stream>;

/// Who opened the connection. Only a peer's must prove itself by a first message, and may lose its place.
#[derive(Debug)]
pub(super) enum Opened {
    ByPeer {
        place: Place,
        /// Of the peer's certificate.
        names: Option<SubjectNames>,
    },
    ByUs,
}

/// Best effort: a connection works without these options, only later or slower.
pub(super) fn tune(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
    let _ = sockopt::set_socket_keepalive(stream, true);
    let _ = sockopt::set_tcp_keepidle(stream, KEEP_ALIVE_IDLE);
    let _ = sockopt::set_tcp_keepintvl(stream, KEEP_ALIVE_INTERVAL);
}

/// Serves a connection to its end. The core is told, unless it asked for the end itself or has never heard of the connection.
pub(super) async fn run(
    shared: &Shared,
    flow: Flow,
    stream: BoxedStream,
    queue: mpsc::Receiver<Bytes>,
    opened: Opened,
) {
    let (mut place, names, deadline) = match opened {
        Opened::ByPeer { place, names } => (Some(place), names, Some(Instant::now() + MESSAGE_TIMEOUT)),
        Opened::ByUs => (None, None, None),
    };
    let mut connection = Connection {
        shared,
        flow,
        stream,
        framer: Framer::new(),
        has_spoken: place.is_none(),
        deadline,
        alive_told_at: None,
        is_reading: true,
        is_heard_of: place.is_none(),
    };
    tokio::select! {
        // The error of a broken connection says nothing that its end does not.
        _ = connection.serve(names, queue) => {}
        // At once, even while it waits for the core to take a message or for its peer to take an answer.
        () = lost(&mut place) => {}
    }
    let is_heard_of = connection.is_heard_of;
    // Its socket and its place are not kept until the core has time.
    drop((connection, place));
    if is_heard_of {
        fail(shared, flow).await;
    } else {
        shared.connections.remove(&flow.connection);
    }
}

/// Forgets the connection and tells the core, if the core does not know yet.
pub(super) async fn fail(shared: &Shared, flow: Flow) {
    if shared.connections.remove(&flow.connection).is_some() {
        shared.tell_core(ToCore::Input(Input::FlowFailed { flow })).await;
    }
}

struct Connection<'a> {
    shared: &'a Shared,
    flow: Flow,
    stream: BoxedStream,
    framer: Framer,
    /// We opened it, or its peer has sent a message: pings alone hold no connection.
    has_spoken: bool,
    /// When an incomplete message (or a silent new connection) ends the connection.
    deadline: Option<Instant>,
    /// When the core was last told of a ping.
    alive_told_at: Option<Instant>,
    /// `false` after a framing error: what follows cannot be understood.
    is_reading: bool,
    /// By the core. A flood of connections that say nothing is none of its business.
    is_heard_of: bool,
}

impl Connection<'_> {
    async fn serve(&mut self, names: Option<SubjectNames>, mut queue: mpsc::Receiver<Bytes>) -> io::Result<()> {
        if let Some(names) = names {
            self.tell(Input::Certified { flow: self.flow, names }).await?;
        }
        loop {
            tokio::select! {
                queued = queue.recv() => match queued {
                    Some(bytes) if queue.is_closed() => return self.finish(bytes, queue).await,
                    Some(bytes) => self.write(&bytes).await?,
                    None => return self.finish(Bytes::new(), queue).await,
                },
                read = read(&mut self.stream, |bytes| self.framer.push(bytes)), if self.is_reading => match read? {
                    0 => return Ok(()),
                    len => self.received(len).await?,
                },
                () = sleep_until(self.deadline), if self.is_reading => return Ok(()),
            }
        }
    }

    /// `len` bytes have been given to the framer.
    async fn received(&mut self, len: usize) -> io::Result<()> {
        let mut is_new_message = self.framer.pending_bytes() == len;
        let mut is_alive = false;
        loop {
            match self.framer.poll() {
                Ok(Some(Frame::Message(bytes))) => {
                    (is_new_message, self.has_spoken) = (true, true);
                    self.tell(Input::Received { flow: self.flow, bytes }).await?;
                }
                Ok(Some(Frame::Ping)) => {
                    self.write(PONG).await?;
                    is_alive = true;
                }
                Ok(Some(Frame::Pong)) => is_alive = true,
                Ok(None) => break,
                Err(error) => return self.unframeable(error).await,
            }
        }
        if is_alive {
            self.tell_alive().await?;
        }
        if self.framer.pending_bytes() == 0 {
            if self.has_spoken {
                self.deadline = None;
            }
        } else if is_new_message || self.deadline.is_none() {
            self.deadline = Some(Instant::now() + MESSAGE_TIMEOUT);
        }
        Ok(())
    }

    /// Once in a while: a peer may ping as often as it likes, and the core has better things to do.
    async fn tell_alive(&mut self) -> io::Result<()> {
        let now = Instant::now();
        if self.alive_told_at.is_none_or(|at| now.duration_since(at) >= ALIVE_INTERVAL) {
            self.alive_told_at = Some(now);
            self.tell(Input::Alive { flow: self.flow }).await?;
        }
        Ok(())
    }

    /// The core answers the head if it can; then the connection is closed.
    async fn unframeable(&mut self, error: FrameError) -> io::Result<()> {
        self.is_reading = false;
        self.tell(Input::Unframeable { flow: self.flow, error }).await?;
        self.send(ToCore::CloseFlow(self.flow)).await
    }

    async fn tell(&mut self, input: Input) -> io::Result<()> {
        self.send(ToCore::Input(input)).await
    }

    async fn send(&mut self, message: ToCore) -> io::Result<()> {
        self.is_heard_of = true;
        if self.shared.tell_core(message).await { Ok(()) } else { Err(io::ErrorKind::BrokenPipe.into()) }
    }

    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        timeout(WRITE_TIMEOUT, async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        })
        .await?
    }

    /// Nobody can queue any more: writes the rest and closes in an orderly way.
    async fn finish(&mut self, first: Bytes, mut queue: mpsc::Receiver<Bytes>) -> io::Result<()> {
        timeout_at(Instant::now() + FLUSH_TIMEOUT, async {
            self.stream.write_all(&first).await?;
            while let Some(bytes) = queue.recv().await {
                self.stream.write_all(&bytes).await?;
            }
            self.stream.shutdown().await
        })
        .await??;
        let until_end = async { while read(&mut self.stream, |_| ()).await.is_ok_and(|len| len > 0) {} };
        // A peer that goes on sending is cut off.
        let _ = timeout(LINGER, until_end).await;
        Ok(())
    }
}

/// Reads once and says how much; 0 is the end. The buffer lives on the thread's stack while there is something to read, so
/// that a connection without a message has none.
async fn read(stream: &mut BoxedStream, mut take: impl FnMut(&[u8])) -> io::Result<usize> {
    poll_fn(|cx| {
        let mut space = [MaybeUninit::uninit(); STREAM_READ_BYTES_MAX];
        let mut buffer = ReadBuf::uninit(&mut space);
        ready!(Pin::new(&mut **stream).poll_read(cx, &mut buffer))?;
        take(buffer.filled());
        let len = buffer.filled().len();
        // What was read may hold keys, and the stack is not given back to an allocator that wipes.
        buffer.filled_mut().zeroize();
        Poll::Ready(Ok(len))
    })
    .await
}

/// Never returns for a connection of our own.
async fn lost(place: &mut Option<Place>) {
    match place {
        Some(place) => place.lost().await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
