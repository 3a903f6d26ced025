//! The layer as its user sees it. Goal: matching, retransmission and timers by name. Method: messages and virtual time go
//! in, one line per output comes out, such as `send 200` or `Terminated`.

use std::iter;

use bytes::Bytes;

use crate::{
    types::{ConnectionId, Duration, Flow, Instant, Rng, Transport, TxnId},
    wire::sip::{Message, Name},
};

use super::{
    Event, Input, Output, Table,
    fixture::{flow, kind, parse, request, response},
    timers::{T1_64, T4},
};

const PEER: &str = "192.0.2.1:5062";

struct Layer {
    table: Table,
    now: Instant,
    transport: Transport,
    /// The last server transaction that was announced.
    txn: TxnId,
    /// The last bytes sent.
    sent: Bytes,
}

impl Layer {
    fn new(transport: Transport) -> Self {
        Self::with_max(transport, 1_000_000)
    }

    fn with_max(transport: Transport, transactions_max: usize) -> Self {
        let table = Table::new(Rng::from_small_seed(1), transactions_max);
        Self { table, now: Instant::default(), transport, txn: TxnId(0), sent: Bytes::new() }
    }

    fn flow(&self) -> Flow {
        flow(self.transport, PEER)
    }

    fn feed(&mut self, input: Input) -> Vec<String> {
        self.table.handle_input(self.now, input);
        let outputs: Vec<Output> =
            iter::from_fn(|| Some(self.table.poll_output()).filter(|o| !matches!(o, Output::Timeout(_)))).collect();
        outputs.into_iter().map(|output| self.line(output)).collect()
    }

    fn line(&mut self, output: Output) -> String {
        match output {
            Output::Transmit { bytes, .. } => {
                self.sent = bytes;
                format!("send {}", kind(&self.sent))
            }
            Output::Event(Event::Request { txn, message, .. }) => {
                self.txn = txn;
                format!("Request {}", message.method_text())
            }
            Output::Event(Event::Response { message, .. }) => format!("Response {}", message.status()),
            Output::Event(event) => format!("{event:?}").chars().take_while(char::is_ascii_alphanumeric).collect(),
            Output::Dropped(reason) => format!("drop {}", reason.label()),
            Output::Timeout(_) => "timeout".to_owned(),
        }
    }

    fn receive(&mut self, message: Message) -> Vec<String> {
        let flow = self.flow();
        self.feed(Input::Received { flow, message })
    }

    /// Answers the last server transaction.
    fn respond(&mut self, request: &Message, status: u16) -> Vec<String> {
        let response = response(request, status).bytes().clone();
        self.feed(Input::Respond { txn: self.txn, status, response })
    }

    /// Starts a client transaction; returns its id and request.
    fn start(&mut self, method: &str) -> (TxnId, Message) {
        let (txn, branch) = self.table.reserve();
        let (flow, request) = (self.flow(), request(method, &branch, &format!("1 {method}")));
        assert_eq!(self.feed(Input::Send { txn, flow, request: request.clone() }), [format!("send {method}")]);
        (txn, request)
    }

    /// Lets time pass; each line starts with its time in milliseconds.
    fn run(&mut self, until_ms: u64) -> Vec<String> {
        let mut lines = Vec::new();
        while let Output::Timeout(Some(at)) = self.table.poll_output() {
            if at.unix_ms() > until_ms {
                break;
            }
            self.now = at;
            lines.extend(self.feed(Input::Timeout).into_iter().map(|line| format!("{} {line}", at.unix_ms())));
        }
        self.now = Instant::from_unix_ms(until_ms);
        lines
    }

    fn run_out(&mut self) -> Vec<String> {
        let lines = self.run(600_000);
        assert!(self.table.is_empty(), "transactions are left: {lines:?}");
        lines
    }
}

fn invite() -> Message {
    request("INVITE", "z9hG4bKone", "1 INVITE")
}

fn options() -> Message {
    request("OPTIONS", "z9hG4bKtwo", "1 OPTIONS")
}

#[test]
fn timers_a_and_b_double_from_t1_and_end_after_64_t1() {
    let mut layer = Layer::new(Transport::Udp);
    layer.start("INVITE");
    let expected = [
        "500 send INVITE",
        "1500 send INVITE",
        "3500 send INVITE",
        "7500 send INVITE",
        "15500 send INVITE",
        "31500 send INVITE",
        "32000 TimedOut",
        "32000 Terminated",
    ];
    assert_eq!(layer.run_out(), expected);
}

#[test]
fn timer_b_alone_runs_over_reliable_transports() {
    let mut layer = Layer::new(Transport::Tls);
    layer.start("INVITE");
    assert_eq!(layer.run_out(), ["32000 TimedOut", "32000 Terminated"]);
}

#[test]
fn a_provisional_response_stops_timers_a_and_b() {
    let mut layer = Layer::new(Transport::Udp);
    let (_, invite) = layer.start("INVITE");
    assert_eq!(layer.receive(response(&invite, 180)), ["Response 180"]);
    assert!(layer.run(3_600_000).is_empty());
    assert_eq!(layer.receive(response(&invite, 486)), ["send ACK", "Response 486"]);
    assert_eq!(layer.run(3_700_000), ["3632000 Terminated"]);
}

#[test]
fn timer_d_answers_each_copy_of_a_final_response_with_the_same_ack() {
    let mut layer = Layer::new(Transport::Udp);
    let (_, invite) = layer.start("INVITE");
    assert_eq!(layer.receive(response(&invite, 486)), ["send ACK", "Response 486"]);
    let ack = Message::parse(layer.sent.clone()).unwrap();
    assert_eq!(layer.receive(response(&invite, 486)), ["send ACK"]);
    assert_eq!(layer.sent, ack.bytes());
    assert_eq!(layer.receive(response(&invite, 200)), ["drop sip_stray_response"]);

    assert_eq!(ack.request_uri(), invite.request_uri());
    assert_eq!(ack.header(Name::Via), invite.header(Name::Via));
    assert_eq!(ack.header(Name::Route), invite.header(Name::Route));
    assert_eq!(ack.header(Name::From), invite.header(Name::From));
    assert_eq!(ack.header(Name::To), Some("<sip:1002@example.com>;tag=callee"));
    assert_eq!(ack.header(Name::CSeq), Some("1 ACK"));
    assert_eq!(ack.header(Name::MaxForwards), Some("70"));
    assert_eq!(layer.run_out(), ["32000 Terminated"]);
}

#[test]
fn timer_d_is_zero_over_reliable_transports() {
    let mut layer = Layer::new(Transport::Tcp);
    let (_, invite) = layer.start("INVITE");
    assert_eq!(layer.receive(response(&invite, 486)), ["send ACK", "Response 486", "Terminated"]);
    assert!(layer.table.is_empty());
}

#[test]
fn timer_m_passes_up_each_copy_of_a_2xx_and_nothing_else() {
    let mut layer = Layer::new(Transport::Udp);
    let (_, invite) = layer.start("INVITE");
    assert_eq!(layer.receive(response(&invite, 200)), ["Response 200"]);
    assert_eq!(layer.receive(response(&invite, 200)), ["Response 200"]);
    assert_eq!(layer.receive(response(&invite, 486)), ["drop sip_stray_response"]);
    assert_eq!(layer.run_out(), ["32000 Terminated"]);
    assert_eq!(layer.receive(response(&invite, 200)), ["drop sip_stray_response"]);
}

#[test]
fn timers_e_and_f_double_to_t2_and_end_after_64_t1() {
    let mut layer = Layer::new(Transport::Udp);
    layer.start("OPTIONS");
    let lines = layer.run_out();
    let times: Vec<&str> = lines.iter().filter_map(|line| line.strip_suffix(" send OPTIONS")).collect();
    assert_eq!(times, ["500", "1500", "3500", "7500", "11500", "15500", "19500", "23500", "27500", "31500"]);
    assert_eq!(lines[times.len()..], ["32000 TimedOut", "32000 Terminated"]);
}

#[test]
fn timer_e_is_t2_after_a_provisional_response() {
    let mut layer = Layer::new(Transport::Udp);
    let (_, options) = layer.start("OPTIONS");
    assert_eq!(layer.receive(response(&options, 100)), ["Response 100"]);
    assert_eq!(layer.run(9_000), ["500 send OPTIONS", "4500 send OPTIONS", "8500 send OPTIONS"]);
    assert_eq!(layer.receive(response(&options, 200)), ["Response 200"]);
    assert_eq!(layer.receive(response(&options, 200)), Vec::<String>::new(), "absorbed while timer K runs");
    assert_eq!(layer.run_out(), ["14000 Terminated"]);
}

#[test]
fn timers_e_and_k_do_not_run_over_reliable_transports() {
    let mut layer = Layer::new(Transport::Tcp);
    let (_, options) = layer.start("OPTIONS");
    assert!(layer.run(20_000).is_empty());
    assert_eq!(layer.receive(response(&options, 200)), ["Response 200", "Terminated"]);
}

#[test]
fn an_invite_unanswered_for_200_ms_gets_100_without_a_tag() {
    let mut layer = Layer::new(Transport::Udp);
    assert_eq!(layer.receive(invite()), ["Request INVITE"]);
    assert_eq!(layer.run(10_000), ["200 send 100"]);
    assert_eq!(Message::parse(layer.sent.clone()).unwrap().to_tag(), None);
    assert_eq!(layer.receive(invite()), ["send 100"], "the copy gets the last response");
}

#[test]
fn an_invite_answered_in_time_gets_no_100() {
    let mut layer = Layer::new(Transport::Udp);
    layer.receive(invite());
    layer.run(199);
    assert_eq!(layer.respond(&invite(), 180), ["send 180"]);
    assert!(layer.run(10_000).is_empty());
    assert_eq!(layer.receive(invite()), ["send 180"]);
}

#[test]
fn timers_g_and_h_resend_a_final_response_until_64_t1() {
    let mut layer = Layer::new(Transport::Udp);
    layer.receive(invite());
    assert_eq!(layer.respond(&invite(), 486), ["send 486"]);
    let lines = layer.run_out();
    let times: Vec<&str> = lines.iter().filter_map(|line| line.strip_suffix(" send 486")).collect();
    assert_eq!(times, ["500", "1500", "3500", "7500", "11500", "15500", "19500", "23500", "27500", "31500"]);
    assert_eq!(lines.last().unwrap(), "32000 Terminated");
}

#[test]
fn timer_h_alone_runs_over_reliable_transports() {
    let mut layer = Layer::new(Transport::Tcp);
    layer.receive(invite());
    layer.respond(&invite(), 486);
    assert_eq!(layer.run_out(), ["32000 Terminated"]);
}

#[test]
fn timer_i_absorbs_acks_of_a_final_response() {
    let mut layer = Layer::new(Transport::Udp);
    layer.receive(invite());
    layer.respond(&invite(), 486);
    let ack = || request("ACK", "z9hG4bKone", "1 ACK");
    assert!(layer.receive(ack()).is_empty());
    assert!(layer.receive(ack()).is_empty());
    assert!(layer.receive(invite()).is_empty());
    assert_eq!(layer.run_out(), [format!("{} Terminated", T4.as_millis())]);
}

#[test]
fn timer_i_is_zero_over_reliable_transports() {
    let mut layer = Layer::new(Transport::Tcp);
    layer.receive(invite());
    layer.respond(&invite(), 486);
    assert_eq!(layer.receive(request("ACK", "z9hG4bKone", "1 ACK")), ["Terminated"]);
}

#[test]
fn a_2xx_is_resent_on_any_transport_until_acknowledged() {
    for transport in [Transport::Udp, Transport::Tls] {
        let mut layer = Layer::new(transport);
        layer.receive(invite());
        assert_eq!(layer.respond(&invite(), 200), ["send 200"]);
        assert_eq!(layer.run(8_000), ["500 send 200", "1500 send 200", "3500 send 200", "7500 send 200"]);
        assert_eq!(layer.receive(request("ACK", "z9hG4bKack", "1 ACK")), ["Ack"]);
        assert!(layer.feed(Input::Acknowledged { txn: layer.txn }).is_empty());
        assert!(layer.receive(invite()).is_empty(), "absorbed while timer L runs");
        assert_eq!(layer.run_out(), ["32000 Terminated"]);
    }
}

#[test]
fn timer_l_reports_a_2xx_that_nobody_acknowledged() {
    let mut layer = Layer::new(Transport::Tcp);
    layer.receive(invite());
    layer.respond(&invite(), 200);
    let lines = layer.run_out();
    assert_eq!(lines.iter().filter(|line| line.ends_with("send 200")).count(), 10);
    assert_eq!(lines[10..], ["32000 NotAcknowledged", "32000 Terminated"]);
}

#[test]
fn timer_j_answers_copies_of_a_request() {
    let mut layer = Layer::new(Transport::Udp);
    assert_eq!(layer.receive(options()), ["Request OPTIONS"]);
    assert!(layer.receive(options()).is_empty(), "nothing to answer with yet");
    assert_eq!(layer.respond(&options(), 200), ["send 200"]);
    assert_eq!(layer.receive(options()), ["send 200"]);
    assert!(layer.respond(&options(), 500).is_empty(), "only one final response");
    assert_eq!(layer.run_out(), ["32000 Terminated"]);
    assert_eq!(layer.receive(options()), ["Request OPTIONS"], "a new transaction after timer J");
}

#[test]
fn timer_j_is_zero_over_reliable_transports() {
    let mut layer = Layer::new(Transport::Tcp);
    layer.receive(options());
    assert_eq!(layer.respond(&options(), 200), ["send 200", "Terminated"]);
}

#[test]
fn a_cancel_is_answered_and_passed_up_once() {
    let mut layer = Layer::new(Transport::Udp);
    let cancel = || request("CANCEL", "z9hG4bKone", "1 CANCEL");
    layer.receive(invite());
    layer.respond(&invite(), 180);
    assert_eq!(layer.receive(cancel()), ["send 200", "Cancelled"]);
    let answer = Message::parse(layer.sent.clone()).unwrap();
    assert_eq!(answer.to_tag(), Some("callee"), "the tag of the INVITE's own responses");
    assert_eq!(answer.header(Name::CSeq), Some("1 CANCEL"));
    assert_eq!(layer.receive(cancel()), ["send 200"]);
    assert_eq!(layer.respond(&invite(), 487), ["send 487"]);
    assert_eq!(layer.receive(cancel()), ["send 200"], "no effect after the final response");
    assert_eq!(layer.table.len(), 1);
}

#[test]
fn a_cancel_without_invite_is_answered_481_with_a_stable_tag() {
    let mut layer = Layer::new(Transport::Udp);
    let cancel = || request("CANCEL", "z9hG4bKone", "1 CANCEL");
    assert_eq!(layer.receive(cancel()), ["send 481"]);
    let first = layer.sent.clone();
    assert_eq!(layer.receive(cancel()), ["send 481"]);
    assert_eq!(layer.sent, first);
    assert!(layer.table.is_empty());
    // The transaction of another method is not cancelled.
    layer.receive(request("OPTIONS", "z9hG4bKone", "1 OPTIONS"));
    assert_eq!(layer.receive(cancel()), ["send 481"]);
}

#[test]
fn our_cancel_waits_for_a_provisional_response() {
    let mut layer = Layer::new(Transport::Udp);
    let (txn, invite) = layer.start("INVITE");
    assert!(layer.feed(Input::Cancel { txn, reason: String::new() }).is_empty());
    assert_eq!(layer.receive(response(&invite, 100)), ["send CANCEL", "Response 100"]);
    let cancel = Message::parse(layer.sent.clone()).unwrap();
    assert_eq!(cancel.request_uri(), invite.request_uri());
    assert_eq!(cancel.header(Name::Via), invite.header(Name::Via));
    assert_eq!(cancel.header(Name::To), invite.header(Name::To));
    assert_eq!(cancel.header(Name::CSeq), Some("1 CANCEL"));
    assert_eq!(layer.run(600), ["500 send CANCEL"], "a transaction of its own");
    assert!(layer.receive(response(&cancel, 200)).is_empty(), "its outcome is absorbed");
    assert_eq!(layer.receive(response(&invite, 487)), ["send ACK", "Response 487"]);
    assert_eq!(layer.run_out(), ["32600 Terminated"], "told once, for the INVITE");
}

#[test]
fn a_cancelled_invite_without_final_response_times_out_64_t1_after_the_cancel() {
    let mut layer = Layer::new(Transport::Tcp);
    let (txn, invite) = layer.start("INVITE");
    layer.receive(response(&invite, 180));
    layer.run(10_000);
    assert_eq!(layer.feed(Input::Cancel { txn, reason: String::new() }), ["send CANCEL"]);
    assert!(layer.feed(Input::Cancel { txn, reason: String::new() }).is_empty(), "one CANCEL is enough");
    assert_eq!(layer.run_out(), ["42000 TimedOut", "42000 Terminated"]);
}

#[test]
fn a_2xx_that_crosses_the_cancel_is_passed_up() {
    let mut layer = Layer::new(Transport::Udp);
    let (txn, invite) = layer.start("INVITE");
    layer.receive(response(&invite, 180));
    layer.feed(Input::Cancel { txn, reason: String::new() });
    assert_eq!(layer.receive(response(&invite, 200)), ["Response 200"]);
    let lines = layer.run_out();
    assert!(lines.iter().all(|line| !line.ends_with("TimedOut")), "{lines:?}");
}

#[test]
fn cancel_has_no_effect_on_transactions_that_are_not_our_invites() {
    let mut layer = Layer::new(Transport::Udp);
    layer.receive(invite());
    assert!(layer.feed(Input::Cancel { txn: layer.txn, reason: String::new() }).is_empty());
    let (options, _) = layer.start("OPTIONS");
    assert!(layer.feed(Input::Cancel { txn: options, reason: String::new() }).is_empty());
    assert!(layer.feed(Input::Cancel { txn: TxnId(999), reason: String::new() }).is_empty());
}

#[test]
fn responses_that_fit_no_transaction_are_dropped() {
    let mut layer = Layer::new(Transport::Udp);
    let (_, invite) = layer.start("INVITE");
    let drop = ["drop sip_stray_response"];
    assert_eq!(layer.receive(response(&options(), 200)), drop);
    let branch = invite.via().unwrap().branch().unwrap().to_owned();
    assert_eq!(layer.receive(response(&request("BYE", &branch, "1 BYE"), 200)), drop, "another method");
    let fits = response(&invite, 200);
    let text = std::str::from_utf8(fits.bytes()).unwrap().replace("\r\n", "\n");
    let misrouted = text.replacen("Via:", "Via: SIP/2.0/UDP 192.0.2.77;branch=z9hG4bKother\nVia:", 1);
    assert_eq!(layer.receive(parse(&misrouted)), drop, "two Vias");
    assert_eq!(layer.receive(fits), ["Response 200"]);
}

#[test]
fn requests_match_by_branch_and_sent_by_and_method() {
    let mut layer = Layer::new(Transport::Udp);
    let varied = |from: &str, to: &str| {
        let text = std::str::from_utf8(options().bytes()).unwrap().replace("\r\n", "\n");
        parse(&text.replace(from, to))
    };
    let named = || varied("192.0.2.1:5062", "Phone.example.com");
    assert_eq!(layer.receive(named()), ["Request OPTIONS"]);
    assert!(layer.receive(varied("192.0.2.1:5062", "phone.EXAMPLE.com")).is_empty(), "host names in any case");
    assert_eq!(layer.receive(varied("192.0.2.1:5062", "phone.example.com:5062")), ["Request OPTIONS"], "port");
    assert_eq!(layer.receive(varied("z9hG4bKtwo", "z9hG4bKTWO")), ["Request OPTIONS"], "branches byte for byte");
    assert_eq!(layer.receive(request("MESSAGE", "z9hG4bKtwo", "1 MESSAGE")), ["Request MESSAGE"]);
    assert_eq!(layer.receive(request("FROB", "z9hG4bKtwo", "1 FROB")), ["Request FROB"]);
    assert_eq!(layer.receive(request("KNOB", "z9hG4bKtwo", "1 KNOB")), ["Request KNOB"], "two unknown methods");
    assert!(layer.receive(request("KNOB", "z9hG4bKtwo", "1 KNOB")).is_empty());
}

#[test]
fn requests_of_rfc_2543_match_without_a_branch() {
    let mut layer = Layer::new(Transport::Udp);
    assert_eq!(layer.receive(request("INVITE", "1", "1 INVITE")), ["Request INVITE"]);
    assert!(layer.receive(request("INVITE", "1", "1 INVITE")).is_empty());
    let invite = request("INVITE", "1", "1 INVITE");
    assert_eq!(layer.respond(&invite, 486), ["send 486"]);
    assert!(layer.receive(request("ACK", "1", "1 ACK")).is_empty());
    assert_eq!(layer.receive(request("INVITE", "1", "2 INVITE")), ["Request INVITE"], "another CSeq number");
}

#[test]
fn an_ack_before_any_final_response_is_dropped() {
    let mut layer = Layer::new(Transport::Udp);
    layer.receive(invite());
    assert_eq!(layer.receive(request("ACK", "z9hG4bKone", "1 ACK")), ["drop sip_stray_ack"]);
}

#[test]
fn a_full_table_refuses_new_requests_without_state() {
    let mut layer = Layer::with_max(Transport::Udp, 1);
    assert_eq!(layer.receive(invite()), ["Request INVITE"], "at the maximum");
    assert_eq!(layer.receive(options()), ["send 503", "drop sip_transactions_full"], "above it");
    let refusal = Message::parse(layer.sent.clone()).unwrap();
    assert_eq!(refusal.header(Name::RetryAfter), Some("5"));
    assert!(refusal.to_tag().is_some());
    assert_eq!(layer.table.len(), 1);
    assert_eq!(layer.receive(request("ACK", "z9hG4bKack", "1 ACK")), ["Ack"]);
    assert_eq!(layer.receive(request("CANCEL", "z9hG4bKone", "1 CANCEL")), ["send 200", "Cancelled"]);
    assert!(layer.receive(invite()).is_empty(), "a copy is not new");
    layer.start("BYE");
    let flow = layer.flow();
    assert_eq!(layer.feed(Input::Urgent { flow, message: options() }), ["Request OPTIONS"]);
}

#[test]
fn a_failed_flow_ends_its_own_transactions_only() {
    let mut layer = Layer::new(Transport::Udp);
    layer.start("INVITE");
    layer.receive(options());
    let other = flow(Transport::Udp, "192.0.2.3:5060");
    layer.feed(Input::Received { flow: other, message: invite() });
    assert_eq!(layer.table.len(), 3);
    let flow = layer.flow();
    let failed = ["TransportFailed", "Terminated", "TransportFailed", "Terminated"];
    assert_eq!(layer.feed(Input::FlowFailed { flow }), failed);
    assert_eq!(layer.table.len(), 1);
    assert!(layer.feed(Input::FlowFailed { flow }).is_empty());
    assert_eq!(layer.feed(Input::FlowFailed { flow: other }), failed[..2]);
    assert!(layer.run_out().is_empty(), "no timer is left");
}

#[test]
fn an_ack_may_come_after_the_flow_of_the_2xx_failed() {
    let mut layer = Layer::new(Transport::Tcp);
    layer.receive(invite());
    layer.respond(&invite(), 200);
    let flow = layer.flow();
    assert!(layer.feed(Input::FlowFailed { flow }).is_empty());
    layer.feed(Input::Acknowledged { txn: layer.txn });
    assert_eq!(layer.run_out(), ["32000 Terminated"]);
}

#[test]
fn responses_leave_on_the_flow_of_their_request() {
    let mut layer = Layer::new(Transport::Udp);
    let behind_nat = flow(Transport::Udp, "203.0.113.5:40000");
    layer.feed(Input::Received { flow: behind_nat, message: options() });
    let response = response(&options(), 200).bytes().clone();
    layer.table.handle_input(layer.now, Input::Respond { txn: layer.txn, status: 200, response });
    let Output::Transmit { flow, .. } = layer.table.poll_output() else { panic!("nothing is sent") };
    assert_eq!(flow, behind_nat);
}

#[test]
fn answers_to_transactions_that_are_gone_are_ignored() {
    let mut layer = Layer::new(Transport::Tcp);
    layer.receive(options());
    layer.respond(&options(), 200);
    assert!(layer.respond(&options(), 200).is_empty());
    assert!(layer.feed(Input::Acknowledged { txn: layer.txn }).is_empty());
}

/// `n` phones call and vanish: half of the calls come in, half go out. Returns timer operations.
fn abandon(n: usize) -> usize {
    let mut layer = Layer::new(Transport::Udp);
    for i in 0..n / 2 {
        let invite = request("INVITE", &format!("z9hG4bK{i}"), "1 INVITE");
        layer.receive(invite.clone());
        layer.respond(&invite, 486);
        layer.start("INVITE");
    }
    assert_eq!(layer.table.len(), n);
    layer.now = layer.now + T1_64 + Duration::from_millis(1);
    // All timers are late by then, the busiest way to end.
    let end = layer.now;
    while let Output::Timeout(Some(at)) = layer.table.poll_output() {
        layer.now = at.max(end);
        layer.feed(Input::Timeout);
        if layer.table.is_empty() {
            break;
        }
    }
    assert!(layer.table.is_empty());
    assert_eq!(layer.now, end, "gone right after 64*T1");
    assert!(layer.table.holds_nothing());
    layer.table.timer_operations()
}

#[test]
fn abandoned_invites_are_gone_after_64_t1_in_linear_work() {
    let (few, many) = (abandon(5_000), abandon(50_000));
    assert_eq!(many, few * 10, "work per transaction does not grow");
}

#[test]
fn a_request_for_a_connection_that_is_gone_fails_at_once() {
    for method in ["INVITE", "OPTIONS"] {
        let mut layer = Layer::new(Transport::Tcp);
        let (txn, branch) = layer.table.reserve();
        let message = request(method, &branch, &format!("1 {method}"));
        let flow = Flow { connection: ConnectionId::NONE, ..layer.flow() };
        assert_eq!(layer.feed(Input::Send { txn, flow, request: message }), ["TransportFailed", "Terminated"]);
        assert!(layer.table.holds_nothing());
    }
}

/// Hands in a message of a sender that has proven nothing.
fn from_stranger(layer: &mut Layer, message: &Message) -> Vec<String> {
    let flow = layer.flow();
    layer.feed(Input::Stranger { flow, message: message.clone() })
}

#[test]
fn a_stranger_who_is_answered_at_once_leaves_nothing_and_is_judged_anew_when_he_asks_again() {
    for transport in [Transport::Udp, Transport::Tls] {
        for (message, status) in [(invite(), 407), (options(), 200), (options(), 401)] {
            let mut layer = Layer::new(transport);
            let request = format!("Request {}", message.method_text());
            for _ in 0..2 {
                assert_eq!(from_stranger(&mut layer, &message), [&*request]);
                let answered = [format!("send {status}"), "Terminated".to_owned()];
                assert_eq!(layer.respond(&message, status), answered, "{transport}");
                assert!(layer.table.holds_nothing());
            }
        }
    }
}

#[test]
fn the_ack_for_a_forgotten_refusal_is_absorbed_and_any_other_is_passed_on() {
    let mut layer = Layer::new(Transport::Udp);
    from_stranger(&mut layer, &invite());
    let tag = layer.table.tag_of_refusal(&invite());
    layer.respond(&invite(), 407);
    let ack = |tag: &str| {
        let text = String::from_utf8(request("ACK", "z9hG4bKone", "1 ACK").bytes().to_vec()).unwrap();
        let text = text.replace("\r\n", "\n");
        let to = text.lines().find(|line| line.starts_with("To:")).unwrap().to_owned();
        let bare = to.split(";tag=").next().unwrap();
        parse(&text.replace(&to, &format!("{bare};tag={tag}")))
    };
    assert_eq!(from_stranger(&mut layer, &ack(&tag)), Vec::<String>::new());
    assert_eq!(from_stranger(&mut layer, &ack("another")), ["Ack"]);
}

#[test]
fn a_stranger_who_has_proven_himself_or_waits_for_an_answer_keeps_his_transaction() {
    let mut layer = Layer::new(Transport::Udp);
    from_stranger(&mut layer, &invite());
    let txn = layer.txn;
    layer.feed(Input::Identified { txn });
    assert_eq!(layer.respond(&invite(), 403), ["send 403"]);
    assert_eq!(layer.run(600), ["500 send 403"]);
    layer.run_out();
    // Whoever has heard 100 does not ask again.
    let mut layer = Layer::new(Transport::Udp);
    from_stranger(&mut layer, &invite());
    assert_eq!(layer.run(250), ["200 send 100"]);
    assert_eq!(layer.respond(&invite(), 486), ["send 486"]);
    assert_eq!(layer.run(800), ["750 send 486"]);
    layer.run_out();
    // A 200 makes a dialog.
    let mut layer = Layer::new(Transport::Udp);
    from_stranger(&mut layer, &invite());
    assert_eq!(layer.respond(&invite(), 200), ["send 200"]);
    assert!(!layer.table.is_empty());
}
