//! SIP over UDP: one datagram, one message.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use rustix::{
    io::Errno,
    net::{SendFlags, sendto},
};
use tokio::net::UdpSocket;
use tracing::warn;

use crate::{
    call::Input,
    shell::core_task::ToCore,
    types::{ConnectionId, Flow, Transport, limits::SIP_MESSAGE_BYTES_MAX},
    wire::sip::frame,
};

use super::{FlowGone, Shared};

/// After an error of the socket itself, which no datagram causes: not in a tight loop.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// Receives from one socket until the server ends.
pub(super) async fn receive(shared: Arc<Shared>, index: usize) {
    let (local, socket) = &shared.udp[index];
    // No datagram is larger: the 16 bits of its length count the headers, too (RFC 768).
    let mut buffer = vec![0; SIP_MESSAGE_BYTES_MAX];
    loop {
        let received = tokio::select! {
            received = socket.recv_from(&mut buffer) => received,
            () = shared.to_core.closed() => return,
        };
        let message = match received {
            Ok((len, _)) if frame::is_keep_alive(&buffer[..len]) => continue,
            Ok((len, remote)) => {
                let flow = Flow { transport: Transport::Udp, local: *local, remote, connection: ConnectionId::NONE };
                let bytes = Bytes::copy_from_slice(&buffer[..len]);
                // It may hold keys, and the next datagram may be shorter.
                buffer[..len].fill(0);
                ToCore::Input(Input::Received { flow, bytes })
            }
            Err(error) => {
                warn!(%local, %error, "A SIP socket cannot be read.");
                tokio::time::sleep(RETRY_AFTER).await;
                continue;
            }
        };
        if !shared.tell_core(message).await {
            return;
        }
    }
}

pub(super) fn send(shared: &Shared, flow: &Flow, bytes: &[u8]) -> Result<(), FlowGone> {
    let socket = socket_for(shared, flow).ok_or(FlowGone)?;
    match sendto(socket, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL, &flow.remote) {
        Ok(_) => Ok(()),
        // The kernel's buffer is full: lost like any other datagram, and sent again by its transaction.
        Err(Errno::AGAIN | Errno::NOBUFS | Errno::INTR) => Ok(()),
        Err(_) => Err(FlowGone),
    }
}

/// The flow's own socket; one of the same family where a stored binding names an address that is not bound any more.
fn socket_for<'a>(shared: &'a Shared, flow: &Flow) -> Option<&'a UdpSocket> {
    let of = |matches: &dyn Fn(&SocketAddr) -> bool| shared.udp.iter().find(|(local, _)| matches(local));
    let exact = of(&|local| *local == flow.local);
    exact.or_else(|| of(&|local| local.is_ipv4() == flow.remote.is_ipv4())).map(|(_, socket)| socket)
}
