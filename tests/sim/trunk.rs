//! The far end of a PSTN trunk: a user agent without an account that speaks plain RTP, and what a test needs to read
//! from the INVITEs it gets.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use bytes::Bytes;
use ringdown::{types::Transport, wire::sip::Message};

use crate::{
    phone::{Answer, Profile},
    world::{DOMAIN, SIP},
};

pub(crate) const IP: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 5));

/// The trunk's host name in configurations.
pub(crate) const HOST: &str = "sip.carrier.example.net";

/// What the shell would read from the trunk's `password_file`.
pub(crate) const PASSWORD: &str = "trunk-password-canary";

/// Configuration of a company with one trunk that carries everything.
pub(crate) const CONFIG: &str = r#"
[company]
name = "Example Corp"
region = "US"
[company.address]
country = "US"
A1 = "DC"
A3 = "Washington"
PRD = "NW"
RD = "Example"
STS = "Avenue"
HNO = "500"
PC = "20001"
FLR = "4"
[emergency]
callback_numbers = ["+12025550100"]
[trunk.carrier]
host = "sip.carrier.example.net"
port = 5060
transport = "udp"
numbers = ["+12025550100"]
encryption = "off"
pstn = true
"#;

pub(crate) fn profile(id: u32, ip: IpAddr, answer: Answer) -> Profile {
    Profile {
        id,
        user: "+14155550199".to_owned(),
        password: None,
        ip,
        transport: Transport::Udp,
        suites: Vec::new(),
        has_mux: false,
        answer,
        domain: DOMAIN.to_owned(),
        server: SocketAddr::new(SIP.ip(), SIP.port()),
    }
}

/// Parts of a `multipart/mixed` body: content type and text of each.
pub(crate) fn parts(invite: &Message) -> Vec<(String, String)> {
    let content_type = invite.header(ringdown::wire::sip::Name::ContentType).unwrap_or_default();
    let Some(boundary) = content_type.split("boundary=").nth(1) else { return Vec::new() };
    let boundary = boundary.split(';').next().unwrap_or_default().trim().trim_matches('"');
    let body: Bytes = invite.body();
    let text = String::from_utf8_lossy(&body);
    text.split(&format!("--{boundary}"))
        .skip(1)
        .take_while(|part| !part.starts_with("--"))
        .filter_map(|part| part.trim_start_matches("\r\n").split_once("\r\n\r\n"))
        .map(|(head, text)| {
            let line = head.lines().find(|l| l.to_ascii_lowercase().starts_with("content-type:"));
            let kind = line.and_then(|l| l.split_once(':')).map_or(String::new(), |(_, v)| v.trim().to_owned());
            (kind, text.to_owned())
        })
        .collect()
}
