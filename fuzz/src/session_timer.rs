//! A session timer whose peer says anything.

use bytes::Bytes;
use ringdown::{
    sip::session_timer::{Due, SessionTimer},
    types::{Duration, Instant},
    wire::sip::{Message, validate},
};

use super::choices::Choices;

const STEPS_MAX: usize = 96;
/// The longest interval there is.
const INTERVAL_MAX: Duration = Duration::from_secs(86_400);

/// The first choice is whether a timer is wanted; each further one is a message or time. A timer that runs always has
/// something to say in time, and once it has said that the session expired it is silent.
pub fn session_timer(data: &[u8]) {
    let mut choices = Choices::new(data);
    let mut now = Instant::from_unix_ms(1_700_000_000_000);
    let mut timer = SessionTimer::new(choices.flag());
    for _ in 0..STEPS_MAX {
        if choices.is_over() {
            break;
        }
        match choices.below(7) {
            0 => {
                let Some(request) = message("UPDATE sip:us@192.0.2.1 SIP/2.0", "UPDATE", &mut choices) else {
                    continue;
                };
                let refusal = SessionTimer::refusal(&request);
                let headers = timer.accept(now, &request);
                let extra: String = headers.iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
                parse("SIP/2.0 200 OK", "UPDATE", &extra).expect("headers of ours are valid");
                assert!(refusal.is_none() || timer.deadline().is_some());
            }
            1 => {
                let Some(response) = message("SIP/2.0 200 OK", "INVITE", &mut choices) else { continue };
                timer.answered(now, &response);
            }
            2 => {
                let Some(response) = message("SIP/2.0 422 Small", "INVITE", &mut choices) else { continue };
                // A peer that asks for ever more is not obeyed for ever.
                assert!(!timer.may_retry(&response) || !timer.may_retry(&response));
            }
            3 => timer.heard(now),
            4 => timer.retry_at(now, choices.flag().then(|| now + Duration::from_millis(choices.time_ms()))),
            5 => now = timer.deadline().filter(|at| *at > now).unwrap_or(now),
            _ => now = now + Duration::from_millis(choices.time_ms() * 64),
        }
        let extra: String = timer.offer().iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
        parse("INVITE sip:us@192.0.2.1 SIP/2.0", "INVITE", &extra).expect("an offer of ours is valid");
        settle(&mut timer, now);
    }
}

/// At most a refresh and then the end; afterwards whatever is due lies ahead.
fn settle(timer: &mut SessionTimer, now: Instant) {
    let first = timer.due(now);
    if first.is_some() {
        assert_ne!(timer.due(now), Some(Due::Refresh), "a refresh is due twice");
    }
    let deadline = timer.deadline();
    assert!(first != Some(Due::Expired) || deadline.is_none(), "an expired session has a timer");
    assert!(deadline.is_none_or(|at| at > now && at.since(now) <= INTERVAL_MAX), "a deadline that nobody meets");
}

fn message(start: &str, method: &str, choices: &mut Choices<'_>) -> Option<Message> {
    let mut extra = String::new();
    for _ in 0..choices.below(5) {
        let name = *choices.of(&["Session-Expires", "x", "Min-SE", "Supported", "Require"]);
        let value = match choices.below(10) {
            0 => choices.text(),
            1 => choices.byte().to_string(),
            n => [
                "timer",
                "90",
                "1800",
                "86400;refresher=uac",
                "600;refresher=uas",
                "3600 ; Refresher = UAS",
                "0",
                "4294967295",
            ][n - 2]
                .to_owned(),
        };
        extra += &format!("{name}: {value}\n");
    }
    parse(start, method, &extra)
}

fn parse(start: &str, method: &str, extra: &str) -> Option<Message> {
    let text = format!(
        "{start}\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1\nMax-Forwards: 70\nFrom: <sip:a@x>;tag=a\n\
         To: <sip:b@x>;tag=b\nCall-ID: one\nCSeq: 1 {method}\nContact: <sip:c@x>\n{extra}Content-Length: 0\n\n"
    );
    Message::parse(Bytes::from(text.replace('\n', "\r\n"))).ok().filter(|message| validate(message).is_ok())
}
