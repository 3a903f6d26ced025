//! What the network says of packets that were sent: ICMP errors, which the kernel keeps in a queue of each socket (`ip(7)`,
//! `ipv6(7)`: `IP_RECVERR`). Without that queue only a connected socket would hear of them.

use std::os::fd::{AsRawFd, OwnedFd};

use nix::{
    errno::Errno,
    libc::{SO_EE_ORIGIN_LOCAL, sock_extended_err},
    sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt, sockopt},
};

use crate::types::DropReason;

/// Room for one error and the address of whoever reported it.
const CONTROL_BYTES: usize = 128;

/// Has errors queued. Whoever does must empty the queue: as long as it holds one, epoll reports the socket.
pub(super) fn enable(socket: &OwnedFd, is_ipv6: bool) -> rustix::io::Result<()> {
    let enabled = match is_ipv6 {
        true => setsockopt(socket, sockopt::Ipv6RecvErr, &true),
        false => setsockopt(socket, sockopt::Ipv4RecvErr, &true),
    };
    enabled.map_err(|error| rustix::io::Errno::from_raw_os_error(error as i32))
}

/// Takes the oldest error out of the queue and names what became of its packet; `None`: the queue is empty.
pub(super) fn next(socket: &OwnedFd) -> Option<DropReason> {
    loop {
        let mut control = [0; CONTROL_BYTES];
        // The packet itself comes back, too, and is not wanted.
        let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
        let message = recvmsg::<()>(socket.as_raw_fd(), &mut [], Some(&mut control), flags).ok()?;
        let errors = message.cmsgs().into_iter().flatten().filter_map(|control| match control {
            ControlMessageOwned::Ipv4RecvErr(error, _) | ControlMessageOwned::Ipv6RecvErr(error, _) => Some(error),
            _ => None,
        });
        // What failed here and not on the way was told to whoever sent it.
        if let Some(error) = errors.into_iter().find(|error| error.ee_origin != SO_EE_ORIGIN_LOCAL) {
            return Some(reason(&error));
        }
    }
}

fn reason(error: &sock_extended_err) -> DropReason {
    match i32::try_from(error.ee_errno).map(Errno::from_raw) {
        Ok(Errno::EMSGSIZE) => DropReason::PathMtu,
        _ => DropReason::PeerUnreachable,
    }
}
