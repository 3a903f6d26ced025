//! Trunks and calls outside as an operator sees them.

use std::{net::UdpSocket, process::Output, time::Duration};

use crate::common::{
    process::{fresh_ip, wait_for},
    server::{ALICE, Ringdown},
};

/// A server with a trunk at an address where nobody answers until somebody listens there.
fn started() -> (Ringdown, std::net::IpAddr) {
    let (ip, branch) = (fresh_ip(), fresh_ip());
    let tables = format!(
        "[company]\nname = \"Example Corp\"\nregion = \"US\"\n[company.address]\ncountry = \"US\"\nA1 = \"DC\"\n\
         A3 = \"Washington\"\nRD = \"Example\"\nHNO = \"500\"\nPC = \"20001\"\nFLR = \"4\"\n\
         [emergency]\ncallback_numbers = [\"+12025550100\"]\n[trunk.carrier]\nhost = \"{ip}\"\nport = 5060\n\
         transport = \"udp\"\nnumbers = [\"+12025550100\"]\noptions_s = 1\nrates = {{ \"+44\" = \"0.03\" }}\n\
         [trunk.branch]\nhost = \"{branch}\"\nport = 5060\ntransport = \"udp\"\npstn = false\n\
         [inbound.branch]\nnumbers = [\"+12025553*\"]\nto = \"trunk:branch\"\n\
         [inbound.alice]\nnumbers = [\"+12025553111\"]\nto = \"user:alice\"\n"
    );
    (Ringdown::started("preferred", &tables, &[ALICE]), ip)
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

/// The exit status and everything the command wrote.
fn command(server: &Ringdown, arguments: &[&str]) -> (Option<i32>, String) {
    let output = server.command(arguments, "");
    (output.status.code(), text(&output))
}

#[test]
fn an_operator_sees_a_trunk_and_drains_it() {
    let (server, ip) = started();
    let (status, list) = command(&server, &["trunk", "list"]);
    assert!(status == Some(0) && list.lines().any(|line| line.starts_with("carrier ")), "{list}");
    let carrier = UdpSocket::bind((ip, 5060)).expect("a free address");
    carrier.set_read_timeout(Some(Duration::from_secs(10))).expect("a time above zero");
    let mut bytes = [0; 2_048];
    let (len, from) = carrier.recv_from(&mut bytes).expect("OPTIONS");
    let request = String::from_utf8_lossy(&bytes[..len]).into_owned();
    assert!(request.starts_with("OPTIONS sip:"), "{request}");
    let kept = |line: &&str| ["Via:", "From:", "To:", "Call-ID:", "CSeq:"].iter().any(|name| line.starts_with(name));
    let headers: Vec<_> = request.lines().filter(kept).collect();
    let answer = |status: u16| format!("SIP/2.0 {status} X\r\n{}\r\nContent-Length: 0\r\n\r\n", headers.join("\r\n"));
    carrier.send_to(answer(503).as_bytes(), from).expect("loopback takes it");
    wait_for("the trunk to be down", Duration::from_secs(10), || {
        let (status, text) = command(&server, &["trunk", "status", "carrier"]);
        (status == Some(69) && text.contains("the trunk `carrier` is down")).then_some(())
    });
    let (status, drained) = command(&server, &["trunk", "drain", "carrier"]);
    assert!(status == Some(0) && drained.starts_with("carrier: draining\n"), "{drained}");
    let (_, metrics) = server.get("/metrics").expect("the admin interface");
    assert!(metrics.contains("ringdown_trunk_state{trunk=\"carrier\",state=\"draining\"} 1\n"), "{metrics}");
    let (status, resumed) = command(&server, &["trunk", "resume", "carrier"]);
    assert!(status == Some(0) && !resumed.contains("draining"), "{resumed}");
    assert_eq!(command(&server, &["trunk", "status", "nobody"]).0, Some(64));
    assert_eq!(command(&server, &["trunk", "drain", "nobody"]).0, Some(64));
}

#[test]
fn a_route_is_explained_and_nobody_is_barred() {
    let (mut server, _) = started();
    for (number, step) in [
        ("911", "911 is an emergency number"),
        ("+442079460123", "1. over the trunk \"carrier\" at 0.03 a minute"),
        ("+19005550100", "the call is answered 403 Premium Numbers Not Allowed"),
        ("2001", "it is the user alice with extension 2001"),
    ] {
        let (status, text) = command(&server, &["route-test", "--from", "alice", number]);
        assert!(status == Some(0) && text.contains(step), "{number}: {text}");
    }
    assert_eq!(command(&server, &["route-test", "--from", "eve", "911"]).0, Some(64));
    for (number, step) in [
        ("911", "the call is answered 404"),
        ("2025553001", "[inbound.branch] leaves +12025553* to the trunk \"branch\""),
        ("+12025553111", "it is the user alice with extension 2001"),
    ] {
        let (status, text) = command(&server, &["route-test", "--trunk", "carrier", number]);
        assert!(status == Some(0) && text.contains(step), "{number}: {text}");
    }
    assert_eq!(command(&server, &["route-test", "--trunk", "nobody", "911"]).0, Some(64));
    assert_eq!(command(&server, &["route-test", "911"]).0, Some(64), "nobody calls");
    // As things are now.
    for (origin, number, step) in [
        (["--from", "alice"], "2001", "0 devices of alice are registered"),
        (["--from", "alice"], "+442079460123", "1. over the trunk \"carrier\" at 0.03 a minute"),
        (["--from", "alice"], "urn:service:sos", "urn:service:sos is an emergency number"),
        (["--trunk", "carrier"], "+12025553111", "it is the user alice with extension 2001"),
    ] {
        let (status, text) = command(&server, &["route-test", "--now", origin[0], origin[1], number]);
        assert!(status == Some(0) && text.contains(step) && !text.contains("with every trunk up"), "{number}: {text}");
    }
    assert_eq!(command(&server, &["trunk", "drain", "carrier"]).0, Some(0));
    let drained = command(&server, &["route-test", "--now", "--from", "alice", "+442079460123"]).1;
    assert!(drained.contains("the call is answered 480 Every Trunk Is Draining\n"), "{drained}");
    assert_eq!(command(&server, &["trunk", "resume", "carrier"]).0, Some(0));
    assert_eq!(command(&server, &["route-test", "--now", "--from", "eve", "911"]).0, Some(64));
    let status = |query: &str| server.get(&format!("/v1/route-test?{query}")).map(|(status, _)| status);
    assert_eq!(status("number=911"), Some(400));
    assert_eq!(status("from=alice&trunk=carrier&number=911"), Some(400));
    assert_eq!(status("trunk=nobody&number=911"), Some(404));
    for arguments in [&["user", "unbar"][..], &["user", "unbar", "alice"]] {
        let (status, text) = command(&server, arguments);
        assert!(status == Some(0) && text.contains("nobody is barred"), "{text}");
    }
    server.kill();
    assert_eq!(command(&server, &["user", "unbar"]).0, Some(69));
}
