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

/// As the headers in it must lie.
#[repr(C, align(16))]
struct Control([u8; CONTROL_BYTES]);

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
        let mut control = Control([0; CONTROL_BYTES]);
        // The packet itself comes back, too, and is not wanted.
        let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
        let message = recvmsg::<()>(socket.as_raw_fd(), &mut [], Some(&mut control.0), flags).ok()?;
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

#[cfg(test)]
mod tests {
    use nix::libc::{EACCES, ECONNREFUSED, EHOSTUNREACH, EMSGSIZE, ENETUNREACH, SO_EE_ORIGIN_ICMP};

    use super::*;

    /// Of a router that wants smaller packets (RFC 1191 section 4) there is none on loopback.
    #[test]
    fn a_narrow_path_is_told_from_a_peer_that_is_gone() {
        let gone = [ECONNREFUSED, EHOSTUNREACH, ENETUNREACH, EACCES].map(|errno| (errno, DropReason::PeerUnreachable));
        for (errno, expected) in gone.into_iter().chain([(EMSGSIZE, DropReason::PathMtu)]) {
            let error = sock_extended_err {
                ee_errno: errno.try_into().unwrap(),
                ee_origin: SO_EE_ORIGIN_ICMP,
                ee_type: 3,
                ee_code: 4,
                ee_pad: 0,
                ee_info: 1_400,
                ee_data: 0,
            };
            assert_eq!(reason(&error), expected, "{errno}");
        }
    }
}
