//! What a caller is told when an emergency call cannot be made (emergency RULES 5.1, 5.4 and 8.4).

use crate::config::Config;

use super::{EmergencyCall, is_available, location, texts::Language};

/// Why an emergency call ends without an answering point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No trunk is configured, or the caller may not use it (5.1).
    NotAvailable,
    /// Every trunk was tried and failed (5.4).
    NotConnected,
}

/// A final response, all but its dialog headers. It carries no Contact and no Retry-After.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub phrase: &'static str,
    /// `Warning`, `Reason` and `Content-Language`, in this order.
    pub headers: [(&'static str, String); 3],
    pub content_type: &'static str,
    pub body: String,
}

/// `domain`: the server's own, as warn-agent (RFC 3261 section 20.43). `language`: the telephone's.
pub fn answer(failure: Failure, call: &EmergencyCall, domain: &str, language: Language) -> Answer {
    let (status, phrase, cause) = match failure {
        // RFC 3261 section 21.4.4; not 404 (a misdial), 603 (ends other branches) or 503 (marks the server as failed).
        Failure::NotAvailable => {
            (403, "Emergency Calls Not Available", "Q.850;cause=63;text=\"Service or option not available\"")
        }
        Failure::NotConnected => (503, "Emergency Call Not Connected", "Q.850;cause=38;text=\"Network out of order\""),
    };
    let text = language.text(failure, &call.digits);
    Answer {
        status,
        phrase,
        headers: [
            ("Warning", warning(domain, &text)),
            ("Reason", cause.to_owned()),
            ("Content-Language", language.tag.to_owned()),
        ],
        content_type: "text/plain;charset=UTF-8",
        body: text + "\r\n",
    }
}

/// The `Warning` of the 200 to a REGISTER while emergency calls are refused (8.4).
pub fn register_warning(config: &Config) -> Option<String> {
    let is_due = config.emergency.register_warning && !is_available(config);
    is_due.then(|| warning(&config.server.domain, "Emergency calls not available"))
}

/// What a user must know before a telephone is set up (8.3).
pub fn notice(config: &Config) -> String {
    if is_available(config) {
        format!(
            "Emergency calls report {} as your location, wherever this device is, unless your direct line has its own \
             private address. Elsewhere, say where you are or use another phone.",
            location::company_line(config)
        )
    } else {
        "This service cannot call emergency numbers. Use a mobile or another telephone.".to_owned()
    }
}

fn warning(domain: &str, text: &str) -> String {
    format!("399 {domain} \"{text}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(digits: &str) -> EmergencyCall {
        EmergencyCall { digits: digits.to_owned(), urn: "urn:service:sos".to_owned(), dialled: "9911".to_owned() }
    }

    fn english() -> Language {
        Language::accepted(std::iter::empty())
    }

    #[test]
    fn a_telephone_is_answered_in_its_language() {
        let german = Language::accepted(["de-DE"].into_iter());
        let answer = answer(Failure::NotAvailable, &call("112"), "pbx.example.com", german);
        assert!(answer.body.starts_with("Notrufe sind von diesem Telefon nicht möglich."), "{}", answer.body);
        assert!(answer.headers[0].1.starts_with("399 pbx.example.com \"Notrufe"), "{:?}", answer.headers);
        assert_eq!(answer.headers[2], ("Content-Language", "de".to_owned()));
    }

    #[test]
    fn a_refusal_says_what_to_do_instead() {
        let answer = answer(Failure::NotAvailable, &call("911"), "pbx.example.com", english());
        let text =
            "Emergency calls are not available from this phone. Use a mobile phone or another telephone to call 911.";
        assert_eq!((answer.status, answer.phrase), (403, "Emergency Calls Not Available"));
        assert_eq!(answer.headers[0].1, format!("399 pbx.example.com \"{text}\""));
        assert_eq!(answer.headers[1].1, "Q.850;cause=63;text=\"Service or option not available\"");
        assert_eq!(answer.body, format!("{text}\r\n"));
        assert!(answer.headers.iter().all(|(name, _)| *name != "Contact" && *name != "Retry-After"));
    }

    #[test]
    fn a_failed_call_is_not_a_refused_one() {
        let answer = answer(Failure::NotConnected, &call("112"), "pbx.example.com", english());
        assert_eq!((answer.status, answer.phrase), (503, "Emergency Call Not Connected"));
        assert_eq!(answer.headers[1].1, "Q.850;cause=38;text=\"Network out of order\"");
        assert!(answer.body.ends_with("to call 112 now.\r\n"));
    }

    #[test]
    fn devices_are_warned_at_registration_only_while_calls_are_refused() {
        let mut config = crate::config::parse("[company]\nname = \"Example Corp\"\nregion = \"US\"").unwrap().0;
        config.server.domain = "pbx.example.com".to_owned();
        assert_eq!(register_warning(&config).as_deref(), Some("399 pbx.example.com \"Emergency calls not available\""));
        config.emergency.register_warning = false;
        assert_eq!(register_warning(&config), None);
    }
}
