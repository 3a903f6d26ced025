//! Methods and header names the server knows.

/// Request methods the server knows by name. Names compare byte for byte (RFC 3261 section 7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    Invite,
    Ack,
    Bye,
    Cancel,
    Register,
    Options,
    Info,
    Update,
    Prack,
    Subscribe,
    Notify,
    Refer,
    Message,
    Publish,
    /// Kept as text: [`super::Message::method_text`].
    Other,
}

impl Method {
    /// [`Method::Other`] for a name the server does not know.
    pub fn from_text(text: &str) -> Self {
        Self::from_bytes(text.as_bytes())
    }

    pub(super) fn from_bytes(text: &[u8]) -> Self {
        match text {
            b"INVITE" => Self::Invite,
            b"ACK" => Self::Ack,
            b"BYE" => Self::Bye,
            b"CANCEL" => Self::Cancel,
            b"REGISTER" => Self::Register,
            b"OPTIONS" => Self::Options,
            b"INFO" => Self::Info,
            b"UPDATE" => Self::Update,
            b"PRACK" => Self::Prack,
            b"SUBSCRIBE" => Self::Subscribe,
            b"NOTIFY" => Self::Notify,
            b"REFER" => Self::Refer,
            b"MESSAGE" => Self::Message,
            b"PUBLISH" => Self::Publish,
            _ => Self::Other,
        }
    }

    /// `"OTHER"` for [`Method::Other`].
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Invite => "INVITE",
            Self::Ack => "ACK",
            Self::Bye => "BYE",
            Self::Cancel => "CANCEL",
            Self::Register => "REGISTER",
            Self::Options => "OPTIONS",
            Self::Info => "INFO",
            Self::Update => "UPDATE",
            Self::Prack => "PRACK",
            Self::Subscribe => "SUBSCRIBE",
            Self::Notify => "NOTIFY",
            Self::Refer => "REFER",
            Self::Message => "MESSAGE",
            Self::Publish => "PUBLISH",
            Self::Other => "OTHER",
        }
    }
}

/// Header names the server looks at; compact forms included (RFC 3261 section 7.3.3). Case-insensitive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Name {
    Accept,
    AlertInfo,
    Allow,
    AuthenticationInfo,
    Authorization,
    CallId,
    CallInfo,
    Contact,
    ContentDisposition,
    ContentEncoding,
    ContentLanguage,
    ContentLength,
    ContentType,
    CSeq,
    Date,
    Diversion,
    Event,
    Expires,
    From,
    Geolocation,
    GeolocationError,
    GeolocationRouting,
    HistoryInfo,
    MaxForwards,
    MimeVersion,
    MinExpires,
    MinSe,
    PAccessNetworkInfo,
    PAssertedIdentity,
    PPreferredIdentity,
    Path,
    Priority,
    Privacy,
    ProxyAuthenticate,
    ProxyAuthorization,
    ProxyRequire,
    RAck,
    RSeq,
    Reason,
    RecordRoute,
    ReferTo,
    ReferredBy,
    RemotePartyId,
    Replaces,
    Require,
    RetryAfter,
    Route,
    Server,
    ServiceRoute,
    SessionExpires,
    Subject,
    SubscriptionState,
    Supported,
    To,
    Unsupported,
    UserAgent,
    Via,
    Warning,
    WwwAuthenticate,
    Other,
}

impl Name {
    /// [`Name::Other`] for a header the server does not look at.
    #[inline]
    pub fn from_bytes(text: &[u8]) -> Self {
        let (Some(first), Some(last)) = (text.first(), text.last()) else { return Self::Other };
        let (name, known) = NAMES[SLOTS[slot(text.len(), *first, *last)] as usize];
        if name == text || is_same(name, text) { known } else { Self::Other }
    }
}

/// Kept out of the way of the names that are written as RFCs write them.
#[cold]
fn is_same(name: &[u8], text: &[u8]) -> bool {
    name.eq_ignore_ascii_case(text)
}

/// Length, first and last letter tell all names apart, so one look-up and one comparison find a name; the factors give
/// each a slot of its own, which the compiler checks.
const fn slot(len: usize, first: u8, last: u8) -> usize {
    len.wrapping_mul(183).wrapping_add((first | 0x20) as usize * 123 + (last | 0x20) as usize * 80) % SLOTS_LEN
}

const SLOTS_LEN: usize = 512;

/// Index into [`NAMES`] by [`slot`]. Free slots hold 0, whose name then does not compare equal.
static SLOTS: [u8; SLOTS_LEN] = {
    let mut slots = [u8::MAX; SLOTS_LEN];
    let mut at = 0;
    assert!(NAMES.len() < u8::MAX as usize, "an index must fit a slot");
    while at < NAMES.len() {
        let name = NAMES[at].0;
        let slot = slot(name.len(), name[0], name[name.len() - 1]);
        assert!(slots[slot] == u8::MAX, "two names share a slot: choose other factors");
        #[expect(clippy::cast_possible_truncation, reason = "asserted above")]
        let index = at as u8;
        slots[slot] = index;
        at += 1;
    }
    let mut slot = 0;
    while slot < SLOTS_LEN {
        if slots[slot] == u8::MAX {
            slots[slot] = 0;
        }
        slot += 1;
    }
    slots
};

/// Every name and compact form, as RFCs write them, which is how most senders do: the comparison then ends at once.
static NAMES: [(&[u8], Name); 73] = [
    (b"Accept", Name::Accept),
    (b"Alert-Info", Name::AlertInfo),
    (b"Allow", Name::Allow),
    (b"Authentication-Info", Name::AuthenticationInfo),
    (b"Authorization", Name::Authorization),
    (b"Call-ID", Name::CallId),
    (b"i", Name::CallId),
    (b"Call-Info", Name::CallInfo),
    (b"Contact", Name::Contact),
    (b"m", Name::Contact),
    (b"Content-Disposition", Name::ContentDisposition),
    (b"Content-Encoding", Name::ContentEncoding),
    (b"e", Name::ContentEncoding),
    (b"Content-Language", Name::ContentLanguage),
    (b"Content-Length", Name::ContentLength),
    (b"l", Name::ContentLength),
    (b"Content-Type", Name::ContentType),
    (b"c", Name::ContentType),
    (b"CSeq", Name::CSeq),
    (b"Date", Name::Date),
    (b"Diversion", Name::Diversion),
    (b"Event", Name::Event),
    (b"o", Name::Event),
    (b"Expires", Name::Expires),
    (b"From", Name::From),
    (b"f", Name::From),
    (b"Geolocation", Name::Geolocation),
    (b"Geolocation-Error", Name::GeolocationError),
    (b"Geolocation-Routing", Name::GeolocationRouting),
    (b"History-Info", Name::HistoryInfo),
    (b"Max-Forwards", Name::MaxForwards),
    (b"MIME-Version", Name::MimeVersion),
    (b"Min-Expires", Name::MinExpires),
    (b"Min-SE", Name::MinSe),
    (b"P-Access-Network-Info", Name::PAccessNetworkInfo),
    (b"P-Asserted-Identity", Name::PAssertedIdentity),
    (b"P-Preferred-Identity", Name::PPreferredIdentity),
    (b"Path", Name::Path),
    (b"Priority", Name::Priority),
    (b"Privacy", Name::Privacy),
    (b"Proxy-Authenticate", Name::ProxyAuthenticate),
    (b"Proxy-Authorization", Name::ProxyAuthorization),
    (b"Proxy-Require", Name::ProxyRequire),
    (b"RAck", Name::RAck),
    (b"RSeq", Name::RSeq),
    (b"Reason", Name::Reason),
    (b"Record-Route", Name::RecordRoute),
    (b"Refer-To", Name::ReferTo),
    (b"r", Name::ReferTo),
    (b"Referred-By", Name::ReferredBy),
    (b"b", Name::ReferredBy),
    (b"Remote-Party-ID", Name::RemotePartyId),
    (b"Replaces", Name::Replaces),
    (b"Require", Name::Require),
    (b"Retry-After", Name::RetryAfter),
    (b"Route", Name::Route),
    (b"Server", Name::Server),
    (b"Service-Route", Name::ServiceRoute),
    (b"Session-Expires", Name::SessionExpires),
    (b"x", Name::SessionExpires),
    (b"Subject", Name::Subject),
    (b"s", Name::Subject),
    (b"Subscription-State", Name::SubscriptionState),
    (b"Supported", Name::Supported),
    (b"k", Name::Supported),
    (b"To", Name::To),
    (b"t", Name::To),
    (b"Unsupported", Name::Unsupported),
    (b"User-Agent", Name::UserAgent),
    (b"Via", Name::Via),
    (b"v", Name::Via),
    (b"Warning", Name::Warning),
    (b"WWW-Authenticate", Name::WwwAuthenticate),
];

/// The long name of a compact form that has no [`Name`] of its own; any other text as it is.
pub(super) fn expand_compact(name: &str) -> &str {
    match name {
        "a" | "A" => "Accept-Contact",      // RFC 3841
        "d" | "D" => "Request-Disposition", // RFC 3841
        "j" | "J" => "Reject-Contact",      // RFC 3841
        "n" | "N" => "Identity-Info",       // RFC 4474
        "u" | "U" => "Allow-Events",        // RFC 6665
        "y" | "Y" => "Identity",            // RFC 8224
        long => long,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_compare_byte_for_byte() {
        assert_eq!(Method::from_text("INVITE"), Method::Invite);
        assert_eq!(Method::from_text("invite"), Method::Other);
        assert_eq!(Method::from_text("INVITE "), Method::Other);
        assert_eq!(Method::from_text(Method::Publish.as_str()), Method::Publish);
    }

    #[test]
    fn names_compare_without_case_and_know_their_compact_forms() {
        assert_eq!(Name::from_bytes(b"MaX-fOrWaRdS"), Name::MaxForwards);
        assert_eq!(Name::from_bytes(b"P-Access-Network-Info"), Name::PAccessNetworkInfo);
        for (compact, long) in [
            ("i", "Call-ID"),
            ("m", "Contact"),
            ("e", "Content-Encoding"),
            ("l", "Content-Length"),
            ("c", "Content-Type"),
            ("f", "From"),
            ("s", "Subject"),
            ("k", "Supported"),
            ("t", "To"),
            ("v", "Via"),
            ("o", "Event"),
            ("r", "Refer-To"),
            ("b", "Referred-By"),
            ("x", "Session-Expires"),
        ] {
            assert_ne!(Name::from_bytes(long.as_bytes()), Name::Other, "{long}");
            assert_eq!(Name::from_bytes(compact.as_bytes()), Name::from_bytes(long.as_bytes()), "{compact}");
            assert_eq!(
                Name::from_bytes(compact.to_uppercase().as_bytes()),
                Name::from_bytes(long.as_bytes()),
                "{compact}"
            );
        }
    }

    #[test]
    fn unknown_and_overlong_names_are_other() {
        assert_eq!(Name::from_bytes(b"NewFangledHeader"), Name::Other);
        assert_eq!(Name::from_bytes(b""), Name::Other);
        assert_eq!(Name::from_bytes(&b"Via".repeat(20_000)), Name::Other);
    }
}
