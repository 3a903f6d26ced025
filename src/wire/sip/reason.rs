//! The Reason header (RFC 3326): why a request is sent, and what of a peer's reasons may be told to somebody else.

use super::{
    build::reason_phrase,
    message::{Message, Name},
};

/// Of a CANCEL to those who did not answer (RFC 3326 section 3.1): telephones then show no missed call.
pub const COMPLETED_ELSEWHERE: &str = "SIP;cause=200;text=\"Call completed elsewhere\"";

/// Of a call that ends because its ports or its slot are needed for an emergency call (RFC 4411 section 5).
pub const PREEMPTION: &str = "preemption;cause=3;text=\"Generic Preemption\"";

/// A value for a reason of our own.
pub fn sip(cause: u16, text: &str) -> String {
    let text = if text.is_empty() { reason_phrase(cause) } else { text };
    format!("SIP;cause={cause};text=\"{}\"", text.replace(['"', '\\'], "'"))
}

/// The SIP and Q.850 causes that a message states, each at most once, written anew. Texts of the peer are left behind: they
/// may name its addresses. `None`: there is none, or only such that cannot be read.
pub fn passed_on(message: &Message) -> Option<String> {
    let (mut sip_cause, mut q850_cause) = (None, None);
    for value in message.values(Name::Reason) {
        match cause(value) {
            Some(("SIP", cause @ 200..=699)) => sip_cause = sip_cause.or(Some(cause)),
            Some(("Q.850", cause @ 1..=127)) => q850_cause = q850_cause.or(Some(cause)),
            Some(_) | None => {}
        }
    }
    let sip_text = sip_cause.map(|cause| match cause {
        200 => COMPLETED_ELSEWHERE.to_owned(),
        cause => sip(cause, ""),
    });
    let texts = [sip_text, q850_cause.map(|cause| format!("Q.850;cause={cause}"))];
    texts.into_iter().flatten().reduce(|a, b| format!("{a}, {b}"))
}

/// The Q.850 cause that a response states, which may pass to another leg (RFC 6432), written anew.
pub fn q850(response: &Message) -> Option<String> {
    let causes = response.values(Name::Reason).filter_map(cause);
    causes
        .filter(|(protocol, cause)| *protocol == "Q.850" && (1..=127).contains(cause))
        .map(|(_, cause)| format!("Q.850;cause={cause}"))
        .next()
}

/// Protocol, in its standard spelling, and cause of one value.
fn cause(value: &str) -> Option<(&'static str, u16)> {
    let (protocol, params) = value.split_once(';')?;
    let protocol = ["SIP", "Q.850"].into_iter().find(|known| known.eq_ignore_ascii_case(protocol.trim()))?;
    let mut params = params.split(';').filter_map(|param| param.split_once('='));
    let (_, digits) = params.find(|(name, _)| name.trim().eq_ignore_ascii_case("cause"))?;
    let digits = digits.trim();
    let is_number = matches!(digits.len(), 1..=3) && digits.bytes().all(|b| b.is_ascii_digit());
    is_number.then(|| digits.parse().ok()).flatten().map(|cause| (protocol, cause))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn passed(reasons: &str) -> Option<String> {
        let text = format!("BYE sip:a@x SIP/2.0\n{reasons}\n\n").replace('\n', "\r\n");
        passed_on(&Message::parse(Bytes::from(text)).unwrap())
    }

    #[test]
    fn causes_pass_in_our_words_and_nothing_else_does() {
        for (reasons, told) in [
            ("Reason: Q.850;cause=16;text=\"Terminated by 10.0.0.1\"", Some("Q.850;cause=16")),
            ("Reason: SIP;cause=200;text=\"Call completed elsewhere\"", Some(COMPLETED_ELSEWHERE)),
            ("Reason: sip ; CAUSE = 603", Some("SIP;cause=603;text=\"Decline\"")),
            (
                "Reason: SIP ;cause=580 ;text=\"a, b\", q.850;cause=127\nReason: Q.850;cause=1",
                Some("SIP;cause=580;text=\"Precondition Failure\", Q.850;cause=127"),
            ),
            ("Reason: Q.850;cause=0", None),
            ("Reason: Q.850;cause=128", None),
            ("Reason: SIP;cause=199", None),
            ("Reason: SIP;cause=700", None),
            ("Reason: SIP;cause=+200", None),
            ("Reason: SIP;cause=99999999999", None),
            ("Reason: SIP;cause=", None),
            ("Reason: SIP", None),
            ("Reason: X.25;cause=20", None),
            ("Reason: SIP;text=\"cause\"", None),
            ("Subject: none", None),
        ] {
            assert_eq!(passed(reasons).as_deref(), told, "{reasons}");
        }
    }

    #[test]
    fn of_a_response_only_the_q850_cause_passes() {
        let passed = |reasons: &str| {
            let text = format!("SIP/2.0 503 Busy\n{reasons}\n\n").replace('\n', "\r\n");
            q850(&Message::parse(Bytes::from(text)).unwrap())
        };
        let both = "Reason: SIP;cause=503;text=\"x\", Q.850 ;cause=34;text=\"No circuit at 10.0.0.1\"";
        assert_eq!(passed(both).as_deref(), Some("Q.850;cause=34"));
        for nothing in ["Reason: SIP;cause=503", "Reason: Q.850;cause=0", "Reason: Q.850;cause=128", "Subject: x"] {
            assert_eq!(passed(nothing), None, "{nothing}");
        }
    }

    #[test]
    fn our_own_text_stays_one_quoted_string() {
        assert_eq!(sip(408, "No \"ACK\" \\"), "SIP;cause=408;text=\"No 'ACK' '\"");
        assert_eq!(sip(503, ""), "SIP;cause=503;text=\"Service Unavailable\"");
    }
}
