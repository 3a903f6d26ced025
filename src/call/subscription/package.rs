//! The event packages of this server, and what a SUBSCRIBE asks for.

use crate::{
    call::admission::Refusal,
    types::{
        Duration,
        limits::{
            EVENT_ID_BYTES_MAX, SUBSCRIBE_BYTES_MAX, SUBSCRIPTION_EXPIRES_S_DEFAULT, SUBSCRIPTION_EXPIRES_S_MAX,
            SUBSCRIPTION_EXPIRES_S_MIN,
        },
    },
    wire::{
        dialog_info, message_summary, reg_info,
        sip::{Message, Name, headers::Params},
    },
};

/// The Allow-Events value (RFC 6665 section 8.2.2).
pub(in crate::call) const ALLOW_EVENTS: &str = "dialog, message-summary, reg";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::call) enum Package {
    /// A user's calls (RFC 4235), for the lamps of other users and the user's own other telephones.
    Dialog,
    /// The user's own voice mailbox (RFC 3842).
    MessageSummary,
    /// The user's own contacts (RFC 3680).
    Reg,
}

impl Package {
    pub(super) const ALL: [Self; 3] = [Self::Dialog, Self::MessageSummary, Self::Reg];

    pub(in crate::call) const fn name(self) -> &'static str {
        match self {
            Self::Dialog => "dialog",
            Self::MessageSummary => "message-summary",
            Self::Reg => "reg",
        }
    }

    pub(super) const fn content_type(self) -> &'static str {
        match self {
            Self::Dialog => dialog_info::CONTENT_TYPE,
            Self::MessageSummary => message_summary::CONTENT_TYPE,
            Self::Reg => reg_info::CONTENT_TYPE,
        }
    }

    /// Only the user itself may subscribe.
    pub(in crate::call) const fn is_private(self) -> bool {
        match self {
            Self::Dialog => false,
            Self::MessageSummary | Self::Reg => true,
        }
    }

    /// Least time between two notifications that nobody asked for (RFC 6665 section 5.4.10). A lamp that lags is of no use.
    pub(super) const fn interval(self) -> Duration {
        match self {
            Self::Dialog => Duration::from_secs(1),
            Self::MessageSummary | Self::Reg => Duration::from_secs(5),
        }
    }

    pub(super) const fn index(self) -> usize {
        self as usize
    }
}

/// What a SUBSCRIBE asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::call) struct Wish {
    pub package: Package,
    /// Tells several subscriptions of one dialog apart, and is repeated in each NOTIFY (RFC 6665 section 4.5.2).
    pub event_id: Option<String>,
    /// Seconds; 0 fetches the state, or ends the subscription.
    pub expires_s: u32,
}

impl Wish {
    pub(in crate::call) fn read(request: &Message) -> Result<Self, Refusal> {
        if request.bytes().len() > SUBSCRIBE_BYTES_MAX {
            return Err(Refusal::of(513));
        }
        let (package, event_id) = event(request)?;
        if event_id.as_ref().is_some_and(|id| id.len() > EVENT_ID_BYTES_MAX) {
            return Err(Refusal { reason: "Event Id Too Long", ..Refusal::of(400) });
        }
        if !accepts(request, package.content_type()) {
            return Err(Refusal::of(406).with("Accept", package.content_type()));
        }
        let expires_s = match request.header(Name::Expires).map(str::parse::<u32>) {
            None => SUBSCRIPTION_EXPIRES_S_DEFAULT,
            Some(Err(_)) => return Err(Refusal { reason: "Malformed Expires", ..Refusal::of(400) }),
            Some(Ok(0)) => 0,
            Some(Ok(1..SUBSCRIPTION_EXPIRES_S_MIN)) => {
                return Err(Refusal::of(423).with("Min-Expires", SUBSCRIPTION_EXPIRES_S_MIN.to_string()));
            }
            Some(Ok(long)) => long.min(SUBSCRIPTION_EXPIRES_S_MAX),
        };
        Ok(Self { package, event_id, expires_s })
    }
}

/// Package and `id` of the Event header. A package we do not have, or none at all, is 489 (RFC 6665 section 4.2.1.1).
pub(in crate::call) fn event(request: &Message) -> Result<(Package, Option<String>), Refusal> {
    let value = request.header(Name::Event).unwrap_or_default();
    let (name, text) = value.split_at(value.find(';').unwrap_or(value.len()));
    let package = Package::ALL.into_iter().find(|package| package.name().eq_ignore_ascii_case(name.trim()));
    let package = package.ok_or_else(|| Refusal::of(489).with("Allow-Events", ALLOW_EVENTS))?;
    Ok((package, Params { text }.get("id").map(str::to_owned)))
}

/// Without Accept, the package's own type is meant (RFC 6665 section 4.1.2.1).
fn accepts(request: &Message, content_type: &str) -> bool {
    let mut ranges = request.values(Name::Accept).peekable();
    let takes = |range: &str| {
        let range = range.split(';').next().unwrap_or_default().trim();
        matches!(range, "*/*" | "application/*") || range.eq_ignore_ascii_case(content_type)
    };
    ranges.peek().is_none() || ranges.any(takes)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn read(headers: &str) -> Result<Wish, (u16, Option<String>)> {
        let text = format!("SUBSCRIBE sip:1@a SIP/2.0\r\n{}\r\n", headers.replace('\n', "\r\n"));
        let refused = |refusal: Refusal| (refusal.status, refusal.header.map(|(_, value)| value));
        Wish::read(&Message::parse(Bytes::from(text)).unwrap()).map_err(refused)
    }

    fn wish(package: Package, event_id: Option<&str>, expires_s: u32) -> Wish {
        Wish { package, event_id: event_id.map(str::to_owned), expires_s }
    }

    #[test]
    fn every_package_is_known_by_its_name_and_listed() {
        for package in Package::ALL {
            assert_eq!(Package::ALL[package.index()], package);
            assert_eq!(read(&format!("o: {}\n", package.name())), Ok(wish(package, None, 3600)));
            assert!(ALLOW_EVENTS.split(", ").any(|name| name == package.name()));
        }
        for event in ["", "Event: presence\n", "Event: dialogs\n", "Event: ;id=1\n"] {
            assert_eq!(read(event), Err((489, Some(ALLOW_EVENTS.to_owned()))), "{event}");
        }
    }

    #[test]
    fn times_are_kept_within_their_limits() {
        let expires = |text: &str| read(&format!("Event: Dialog;id=7;sla\nExpires: {text}\n"));
        for (asked, granted) in [("0", 0), ("60", 60), ("7200", 7200), ("7201", 7200), ("4294967295", 7200)] {
            assert_eq!(expires(asked), Ok(wish(Package::Dialog, Some("7"), granted)));
        }
        for brief in ["1", "59"] {
            assert_eq!(expires(brief), Err((423, Some("60".to_owned()))));
        }
        for bad in ["soon", "-1", "4294967296"] {
            assert_eq!(expires(bad), Err((400, None)), "{bad}");
        }
    }

    #[test]
    fn an_id_is_taken_up_to_its_limit() {
        let id = |bytes: usize| read(&format!("Event: dialog;id={}\n", "x".repeat(bytes)));
        assert!(id(EVENT_ID_BYTES_MAX).is_ok());
        assert_eq!(id(EVENT_ID_BYTES_MAX + 1), Err((400, None)));
    }

    #[test]
    fn a_request_is_taken_up_to_its_limit() {
        let of = |filler: usize| {
            let text = format!("SUBSCRIBE sip:1@a SIP/2.0\r\nEvent: reg\r\nX: {}\r\n\r\n", "x".repeat(filler));
            let request = Message::parse(Bytes::from(text)).unwrap();
            (request.bytes().len(), Wish::read(&request).map_err(|refusal| refusal.status))
        };
        let head = of(0).0;
        assert_eq!(of(SUBSCRIBE_BYTES_MAX - head), (SUBSCRIBE_BYTES_MAX, Ok(wish(Package::Reg, None, 3600))));
        assert_eq!(of(SUBSCRIBE_BYTES_MAX - head + 1).1, Err(513));
    }

    #[test]
    fn a_subscriber_who_cannot_read_the_document_is_told_so() {
        let accept = |text: &str| read(&format!("Event: dialog\nAccept: {text}\n")).is_ok();
        assert!(accept("text/plain, application/dialog-info+xml;q=0.1"));
        assert!(accept("*/*") && accept("application/*"));
        let refused = read("Event: dialog\nAccept: application/pidf+xml\n");
        assert_eq!(refused, Err((406, Some("application/dialog-info+xml".to_owned()))));
    }
}
