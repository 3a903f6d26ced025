//! Messages for tests of this layer, and a printer of what machines do.

use std::fmt::Debug;

use bytes::Bytes;

use crate::{
    types::{ConnectionId, Flow, Transport},
    wire::sip::Message,
};

use super::{
    action::{Action, Actions},
    timers::Timer,
};

pub(super) fn parse(text: &str) -> Message {
    Message::parse(Bytes::from(text.replace('\n', "\r\n"))).expect("a test message is well-formed")
}

/// A request with this branch; `cseq` as in the header, such as `1 INVITE`.
pub(super) fn request(method: &str, branch: &str, cseq: &str) -> Message {
    parse(&format!(
        "{method} sip:1002@example.com SIP/2.0\n\
         Via: SIP/2.0/UDP 192.0.2.1:5062;branch={branch}\n\
         Max-Forwards: 70\n\
         Route: <sip:edge.example.com;lr>\n\
         From: <sip:1001@example.com>;tag=caller\n\
         To: <sip:1002@example.com>\n\
         Call-ID: one@192.0.2.1\n\
         CSeq: {cseq}\n\
         Content-Length: 0\n\n"
    ))
}

/// A response to `request`, with a To tag unless it is 100.
pub(super) fn response(request: &Message, status: u16) -> Message {
    let via = request.via().expect("test requests have one");
    let port = via.port.map_or_else(String::new, |port| format!(":{port}"));
    let cseq = request.cseq().expect("test requests have one");
    let tag = if status == 100 { "" } else { ";tag=callee" };
    parse(&format!(
        "SIP/2.0 {status} Whatever\n\
         Via: SIP/2.0/{} {}{port};branch={}\n\
         From: <sip:1001@example.com>;tag=caller\n\
         To: <sip:1002@example.com>{tag}\n\
         Call-ID: {}\n\
         CSeq: {} {}\n\
         Content-Length: 0\n\n",
        via.transport,
        via.host,
        via.branch().unwrap_or_default(),
        request.call_id(),
        cseq.number,
        cseq.method_text,
    ))
}

pub(super) fn flow(transport: Transport, remote: &str) -> Flow {
    Flow {
        transport,
        local: "192.0.2.9:5060".parse().expect("an address"),
        remote: remote.parse().expect("an address"),
        connection: if transport.is_reliable() { ConnectionId(7) } else { ConnectionId::NONE },
    }
}

/// What is being sent: the method, or the status.
pub(super) fn kind(bytes: &Bytes) -> String {
    let message = Message::parse(bytes.clone()).expect("the layer writes well-formed messages");
    if message.is_request() { message.method_text().to_owned() } else { message.status().to_string() }
}

/// A state or an input, with its name.
pub(super) type Named<T> = (&'static str, fn() -> T);

/// What each state does about each input, and what else over reliable transports; inputs without any effect come last.
pub(super) fn table<M: Debug, I>(
    states: &[Named<M>],
    inputs: &[Named<I>],
    handle: impl Fn(&mut M, I, Transport, &mut Actions),
) -> String {
    let mut rows = String::from("\n");
    for (state_name, state) in states {
        let mut ignored = Vec::new();
        for (input_name, input) in inputs {
            let [udp, tcp] = [Transport::Udp, Transport::Tcp].map(|transport| {
                let mut machine = state();
                let before = format!("{machine:?}");
                let mut out = Actions::default();
                handle(&mut machine, input(), transport, &mut out);
                let has_effect = !out.0.is_empty() || format!("{machine:?}") != before;
                has_effect.then(|| format!("{}{}", variant(&machine), out.0.iter().map(describe).collect::<String>()))
            });
            match (udp, tcp) {
                (None, None) => ignored.push(*input_name),
                (udp, tcp) if udp == tcp => {
                    rows += &format!("{state_name} + {input_name} -> {}\n", udp.unwrap_or_default())
                }
                (udp, tcp) => {
                    let [udp, tcp] = [udp, tcp].map(|outcome| outcome.unwrap_or_else(|| "no effect".to_owned()));
                    rows += &format!("{state_name} + {input_name} -> {udp}; reliable: {tcp}\n");
                }
            }
        }
        if !ignored.is_empty() {
            rows += &format!("{state_name} ignores {}\n", ignored.join(", "));
        }
    }
    rows
}

fn variant(machine: &impl Debug) -> String {
    format!("{machine:?}").chars().take_while(char::is_ascii_alphanumeric).collect()
}

fn describe(action: &Action) -> String {
    match action {
        Action::Send(bytes) => format!(", send {}", kind(bytes)),
        Action::Set(timer, after) => format!(", set {} {after:?}", timer_name(*timer)),
        Action::Clear(timer) => format!(", clear {}", timer_name(*timer)),
        Action::PassResponse(message) => format!(", pass {}", message.status()),
        Action::PassAck { .. } => ", pass ACK".to_owned(),
        Action::PassCancel(_) => ", pass CANCEL".to_owned(),
        Action::StartCancel(bytes) => format!(", start {}", kind(bytes)),
        Action::TimedOut => ", timed out".to_owned(),
        Action::TransportFailed => ", transport failed".to_owned(),
        Action::NotAcknowledged => ", not acknowledged".to_owned(),
        Action::Drop(reason) => format!(", drop {}", reason.label()),
    }
}

fn timer_name(timer: Timer) -> String {
    match timer {
        Timer::InviteClient(timer) => format!("{timer:?}"),
        Timer::NonInviteClient(timer) => format!("{timer:?}"),
        Timer::InviteServer(timer) => format!("{timer:?}"),
        Timer::NonInviteServer(timer) => format!("{timer:?}"),
    }
}
