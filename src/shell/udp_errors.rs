//! Datagrams that the kernel had no room for: dropped at a full socket before this program could see or count them.

use std::{fs::File, os::unix::fs::FileExt as _, sync::Arc};

/// Far more than either file has.
const FILE_BYTES_MAX: usize = 16 * 1024;

/// The kernel's own counters, for IPv4 and IPv6, of the network namespace that this process is in. A confined process cannot
/// open them any more, but read them.
#[derive(Clone, Debug, Default)]
pub struct UdpErrors(Arc<[File]>);

impl UdpErrors {
    /// Those that this kernel has.
    pub fn open() -> Self {
        let files = ["/proc/self/net/snmp", "/proc/self/net/snmp6"].map(File::open);
        Self(files.into_iter().flatten().collect())
    }

    /// Datagrams dropped at a full receive buffer so far, of all programs there. `None`: the kernel does not tell.
    pub fn receive_buffer_full(&self) -> Option<u64> {
        let counts = self.0.iter().filter_map(|file| {
            let mut text = [0; FILE_BYTES_MAX];
            let len = file.read_at(&mut text, 0).ok()?;
            receive_buffer_full(std::str::from_utf8(&text[..len]).ok()?)
        });
        counts.reduce(u64::saturating_add)
    }
}

/// IPv4's file has a line of names above a line of values; IPv6's has a name and a value in each line.
fn receive_buffer_full(text: &str) -> Option<u64> {
    let mut of_udp = text.lines().filter_map(|line| line.strip_prefix("Udp:"));
    if let (Some(names), Some(values)) = (of_udp.next(), of_udp.next()) {
        let place = names.split_whitespace().position(|name| name == "RcvbufErrors")?;
        return values.split_whitespace().nth(place)?.parse().ok();
    }
    text.lines().find_map(|line| line.strip_prefix("Udp6RcvbufErrors"))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn both_forms_are_read_and_other_texts_tell_nothing() {
        let v4 = "Tcp: RcvbufErrors\nTcp: 1\nUdp: InDatagrams NoPorts RcvbufErrors SndbufErrors\nUdp: 10 2 77 4\nUdpLite: RcvbufErrors\n";
        let v6 =
            "Udp6InErrors                    \t5\nUdp6RcvbufErrors                \t33\nUdpLite6RcvbufErrors \t9\n";
        for (text, expected) in [
            (v4, Some(77)),
            (v6, Some(33)),
            ("", None),
            ("Udp: RcvbufErrors\n", None),
            ("Udp: InDatagrams\nUdp: 5\n", None),
            ("Udp6RcvbufErrors x\n", None),
        ] {
            assert_eq!(receive_buffer_full(text), expected, "{text}");
        }
        assert_eq!(UdpErrors::default().receive_buffer_full(), None);
    }

    #[test]
    fn what_a_full_socket_loses_is_counted() {
        let errors = UdpErrors::open();
        for ip in ["127.0.0.1", "::1"] {
            let socket = UdpSocket::bind((ip, 0)).unwrap();
            rustix::net::sockopt::set_socket_recv_buffer_size(&socket, 4_096).unwrap();
            let before = errors.receive_buffer_full().unwrap();
            for _ in 0..100 {
                socket.send_to(&[0; 1_000], socket.local_addr().unwrap()).unwrap();
            }
            socket.set_nonblocking(true).unwrap();
            let kept = std::iter::from_fn(|| socket.recv_from(&mut [0; 1_000]).ok()).count() as u64;
            let lost = errors.receive_buffer_full().unwrap() - before;
            assert!(lost >= 100 - kept && kept < 100, "{lost} of 100, {kept} kept over {ip}");
        }
    }
}
