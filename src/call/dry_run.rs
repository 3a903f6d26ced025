//! What an emergency call would be, without making it: the server's own core is given a telephone that dials and a carrier
//! whose addresses are always known, and what it wants to send is read instead of sent.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use bytes::Bytes;

use super::{Core, Input, Output, Setup};
use crate::{
    config::{Config, Directory},
    sip::{
        locate::{Question, Record, RecordType, Reply},
        registrar::Binding,
    },
    types::{ConnectionId, Duration, Flow, Instant, Rng, Secret, Transport},
    wire::sip::Message,
};

/// Addresses for documentation (RFC 5737, RFC 3849): of the telephone, and of every carrier.
const TELEPHONE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 201));
const CARRIER_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 202));
const CARRIER_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x202));
const PORT: u16 = 5060;
/// How long a rehearsed call is followed: longer than a tone lasts, and shorter than a trunk may take to answer.
const PATIENCE: Duration = Duration::from_millis(1_500);
const OFFER: &str = "v=0\r\no=- 1 1 IN IP4 192.0.2.201\r\ns=-\r\nc=IN IP4 192.0.2.201\r\nt=0 0\r\n\
                     m=audio 4000 RTP/AVP 0 8\r\n";

/// What a call would come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rehearsal {
    /// The INVITE that the first trunk would get.
    Invite(Bytes),
    /// The answer that the caller would get, with its status.
    Refusal(u16, Bytes),
    /// Neither: no trunk could be reached from the addresses that this server listens on.
    Nothing,
}

/// `user`: whose telephone dials. `dialled`: a number, or a URN.
pub fn rehearse(
    now: Instant,
    (config, directory): (&Arc<Config>, &Arc<Directory>),
    user: &str,
    dialled: &str,
    rng: Rng,
) -> Rehearsal {
    let listeners = listeners(config);
    let telephone = SocketAddr::new(TELEPHONE, PORT);
    let local = listeners.first().map_or(telephone, |(_, address)| *address);
    let flow = Flow { transport: Transport::Udp, local, remote: telephone, connection: ConnectionId::NONE };
    let setup = Setup {
        config: Arc::clone(config),
        directory: Arc::clone(directory),
        listeners,
        workers: 1,
        trunk_passwords: HashMap::new(),
        bindings: vec![binding(now, user, flow)],
        gruu_key: Secret::new([0; 32]),
        rng,
    };
    let mut core = Core::new(now, setup);
    drain(&mut core, now, &flow);
    core.handle_input(now, Input::Received { flow, bytes: invite(config, user, dialled) });
    let until = now + PATIENCE;
    let mut now = now;
    loop {
        match drain(&mut core, now, &flow) {
            // The refusal comes after its tone.
            (Rehearsal::Nothing, Some(at)) if at <= until => {
                now = now.max(at);
                core.handle_input(now, Input::Timeout);
            }
            (heard, _) => return heard,
        }
    }
}

fn listeners(config: &Config) -> Vec<(Transport, SocketAddr)> {
    let of =
        |transport, addresses: &[SocketAddr]| addresses.iter().map(|address| (transport, *address)).collect::<Vec<_>>();
    let sip = &config.sip;
    [of(Transport::Udp, &sip.udp), of(Transport::Tcp, &sip.tcp), of(Transport::Tls, &sip.tls)].concat()
}

fn binding(now: Instant, user: &str, flow: Flow) -> Binding {
    Binding {
        aor: user.to_owned(),
        contact: format!("sip:telephone@{}", flow.remote),
        flow,
        expires_at: now + Duration::from_secs(3_600),
        call_id: "dry-run".to_owned(),
        cseq: 1,
        instance: None,
        reg_id: None,
        path: Vec::new(),
        is_proxied: false,
        user_agent: String::new(),
    }
}

/// As a telephone would write it; its registered address stands for its password.
fn invite(config: &Config, user: &str, dialled: &str) -> Bytes {
    let domain = &config.server.domain;
    let uri = if dialled.starts_with("urn:") { dialled.to_owned() } else { format!("sip:{dialled}@{domain}") };
    let telephone = SocketAddr::new(TELEPHONE, PORT);
    Bytes::from(format!(
        "INVITE {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {telephone};branch=z9hG4bK-dry-run\r\nMax-Forwards: 70\r\n\
         From: <sip:{user}@{domain}>;tag=dry-run\r\nTo: <{uri}>\r\nCall-ID: dry-run\r\nCSeq: 1 INVITE\r\n\
         Contact: <sip:telephone@{telephone}>\r\nContent-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{OFFER}",
        OFFER.len()
    ))
}

/// Answers what the core asks of DNS, and keeps the first thing it says that matters. With when the core wants to be told the time.
fn drain(core: &mut Core, now: Instant, telephone: &Flow) -> (Rehearsal, Option<Instant>) {
    let mut heard = Rehearsal::Nothing;
    loop {
        match core.poll_output() {
            Output::Timeout(at) => return (heard, at),
            Output::Resolve { query, question } => {
                let reply = reply(&question);
                core.handle_input(now, Input::Resolved { query, question, reply });
            }
            Output::Transmit { flow, bytes } if heard == Rehearsal::Nothing => {
                heard = said(&flow, telephone, bytes);
            }
            Output::Transmit { .. }
            | Output::Connect { .. }
            | Output::Close { .. }
            | Output::FetchCertificate { .. }
            | Output::Media { .. }
            | Output::StoreBinding(_)
            | Output::OpenCdr { .. }
            | Output::UpdateCdr(_)
            | Output::StoreCdr(_)
            | Output::Resynced { .. }
            | Output::TestCalled { .. }
            | Output::Inspected { .. }
            | Output::Notify { .. } => {}
        }
    }
}

fn said(flow: &Flow, telephone: &Flow, bytes: Bytes) -> Rehearsal {
    match Message::parse(bytes.clone()) {
        Ok(message) if flow.remote == telephone.remote && message.status() >= 300 => {
            Rehearsal::Refusal(message.status(), bytes)
        }
        Ok(message) if message.is_request() && flow.remote != telephone.remote && message.method_text() == "INVITE" => {
            Rehearsal::Invite(bytes)
        }
        Ok(_) | Err(_) => Rehearsal::Nothing,
    }
}

/// Every carrier has one address of each family, and no further records.
fn reply(question: &Question) -> Reply {
    let address = match question.record_type {
        RecordType::A => CARRIER_V4,
        RecordType::Aaaa => CARRIER_V6,
        RecordType::Naptr | RecordType::Srv => return Reply::Absent,
    };
    Reply::Found { records: vec![Record::Address(address)], ttl: Duration::from_secs(3_600) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{Forwarding, Place, User, parse},
        wire::sip::{Name, digest::Credential},
    };

    const COMPANY: &str =
        "[server]\ndomain = \"pbx.example.com\"\n[company]\nname = \"Example Corp\"\nregion = \"US\"\n";
    const TRUNK: &str = "address = { country = \"US\", A1 = \"DC\", A3 = \"Washington\", RD = \"Example\", HNO = \"500\", \
                         PC = \"20001\" }\n[emergency]\ncallback_numbers = [\"+12025550100\"]\n[trunk.a]\n\
                         host = \"sip.carrier.example\"\nnumbers = [\"+12025550100\"]\n";

    fn rehearsed(more: &str, dialled: &str) -> Rehearsal {
        let config = Arc::new(parse(&format!("{COMPANY}{more}")).unwrap_or_else(|p| panic!("{p:#?}")).0);
        let alice = User {
            name: "alice".to_owned(),
            extension: "1001".to_owned(),
            direct_line: Some("+12025550177".to_owned()),
            credential: Credential { ha1_md5: Secret::new([0; 16]), ha1_sha256: Secret::new([0; 32]) },
            forwarding: Forwarding::default(),
            place: Place::default(),
        };
        let directory = Arc::new(Directory::new([alice]));
        let now = Instant::from_unix_ms(1_768_469_400_000);
        rehearse(now, (&config, &directory), "alice", dialled, Rng::from_small_seed(1))
    }

    #[test]
    fn the_invite_is_what_a_trunk_of_any_transport_would_get() {
        for transport in ["tls", "tcp", "udp", "auto"] {
            let trunk = format!("{TRUNK}transport = \"{transport}\"\n");
            for (dialled, uri) in
                [("911", "sip:911@"), ("9-1-1", "sip:911@"), ("urn:service:sos", "sip:911@"), ("933", "sip:933@")]
            {
                let Rehearsal::Invite(bytes) = rehearsed(&trunk, dialled) else { panic!("{transport} {dialled}") };
                let invite = Message::parse(bytes).unwrap();
                assert!(invite.request_uri().starts_with(uri), "{dialled}: {}", invite.request_uri());
                assert!(invite.from().unwrap().uri.contains("+12025550177"));
                assert!(String::from_utf8_lossy(&invite.body()).contains("<ca:RD>Example</ca:RD>"));
            }
        }
    }

    #[test]
    fn without_a_trunk_it_is_the_refusal_that_the_caller_would_get() {
        let Rehearsal::Refusal(status, bytes) = rehearsed("", "911") else { panic!("no refusal") };
        let refusal = Message::parse(bytes).unwrap();
        assert_eq!((status, refusal.reason_phrase()), (403, "Emergency Calls Not Available"));
        assert!(refusal.header(Name::Warning).is_some());
        assert!(matches!(rehearsed("", "933"), Rehearsal::Refusal(404, _)));
        let after_the_tone = rehearsed("[emergency]\nrefusal_tone = true\n", "911");
        assert!(matches!(after_the_tone, Rehearsal::Refusal(403, _)), "{after_the_tone:?}");
    }
}
