//! Faxes over T.38 between a PSTN gateway and a fax adapter, both SIPp; the two ends of the fax itself are this test's.

use std::{
    net::{IpAddr, SocketAddr, UdpSocket},
    thread,
    time::Duration,
};

use crate::{
    baresip::{self, Baresip},
    common::server::{ALICE, Ringdown},
    sipp::{self, Sipp},
    tone::{B_HZ, Wanted, assert_heard},
    trunk,
};

const FAX_PORT: u16 = 11_000;
/// Until the change is agreed on and commands have reached the relay, at the longest.
const PATIENCE: Duration = Duration::from_millis(100);

/// One end of the fax.
fn machine(ip: IpAddr) -> UdpSocket {
    let socket = UdpSocket::bind((ip, FAX_PORT)).expect("a free address");
    socket.set_read_timeout(Some(PATIENCE)).expect("a time above zero");
    socket
}

/// UDPTL packets as a fax sends them: indicator, data with what came before as redundancy, data with parity (FEC); the last two
/// begin as RTP does, which a long fax comes to.
const PACKETS: [&[u8]; 4] = [
    &[0, 0, 1, 6, 0, 0],
    &[0, 1, 4, 0xc0, 1, 0x80, 0xff, 0, 1, 1, 6],
    &[0x80, 0, 4, 0xc0, 1, 0x80, 0xff, 0, 1, 1, 6],
    &[0x80, 1, 4, 0xc0, 1, 0x80, 0xff, 0x80, 1, 3, 1, 4, 1, 2, 3, 4],
];

/// The server's port for the fax towards a SIPp, from the SIPp's messages.
fn fax_port(messages: &str) -> u16 {
    let theirs = format!("m=image {FAX_PORT} ");
    let ports = messages.lines().filter(|line| line.starts_with("m=image ") && !line.starts_with(&theirs));
    let port = ports.filter_map(|line| line.split(' ').nth(1)?.parse().ok()).next();
    port.expect("the server's m=image line")
}

/// Sends each packet until it arrives; it must be the same.
fn assert_carries(from: &UdpSocket, to_server: SocketAddr, at: &UdpSocket) {
    for packet in PACKETS {
        let arrived = (0..50).find_map(|_| {
            from.send_to(packet, to_server).expect("loopback takes it");
            let mut bytes = [0; 512];
            // Repetitions of the packet before it may still come.
            std::iter::from_fn(|| at.recv(&mut bytes).ok().map(|len| bytes[..len].to_vec())).find(|got| got == packet)
        });
        assert_eq!(arrived.as_deref(), Some(packet));
    }
}

#[test]
fn a_gateway_and_an_adapter_change_to_t38_and_back_and_the_fax_passes_unchanged_both_ways() {
    let carrier = sipp::Setup::new("trunk_calls_and_faxes.xml", B_HZ);
    let server = Ringdown::started("preferred", &trunk(carrier.ip), &[ALICE]);
    let adapter = sipp::Setup {
        keys: vec![("domain", server.ip.to_string()), ("user", ALICE.user.to_owned())],
        account: Some(ALICE),
        remote: Some(server.sip()),
        ..sipp::Setup::new("register.xml", B_HZ)
    };
    Sipp::start(&server, &adapter).wait_done();
    let port = ("fax_port", FAX_PORT.to_string());
    let keys = vec![port.clone()];
    let adapter = sipp::Setup { scenario: "device_takes_fax.xml", keys, account: None, remote: None, ..adapter };
    let machines = [machine(carrier.ip), machine(adapter.ip)];
    let answering = Sipp::start(&server, &adapter);
    let keys = vec![port, ("domain", server.ip.to_string()), ("callee", ALICE.direct_line.to_owned())];
    let calling = Sipp::start(&server, &sipp::Setup { keys, remote: Some(server.sip()), ..carrier });
    calling.wait_message("CSeq: 2 ACK", 1);
    let [to_carrier, to_adapter] =
        [&calling, &answering].map(|sipp| SocketAddr::new(server.ip, fax_port(&sipp.messages())));
    let [gateway, adapter] = &machines;
    assert_carries(gateway, to_carrier, adapter);
    assert_carries(adapter, to_adapter, gateway);
    calling.wait_done();
    answering.wait_done();
    server.wait_no_calls();
}

#[test]
fn a_gateway_that_is_refused_t38_by_an_encrypted_phone_is_heard_as_before() {
    let mut setup = sipp::Setup::new("trunk_calls_and_is_refused_a_fax.xml", B_HZ);
    let server = Ringdown::started("required", &trunk(setup.ip), &[ALICE]);
    let alice = Baresip::start(&server, &baresip::Setup::new(ALICE, B_HZ, true));
    setup.remote = Some(server.sip());
    setup.keys = vec![("domain", server.ip.to_string()), ("callee", ALICE.direct_line.to_owned())];
    let messages = Sipp::start(&server, &setup).wait_done();
    alice.wait_closed();
    thread::sleep(PATIENCE);
    assert!(messages.contains("Encryption (SRTP) is required here"), "{messages}");
    assert_heard("alice", &alice.recording(), Wanted::whole(B_HZ, 4.0));
    assert_eq!(sipp::requests(&alice.log(), "INVITE"), 1, "the phone is not bothered");
}
