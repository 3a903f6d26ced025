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
    pub fn from_bytes(text: &[u8]) -> Self {
        let Some((known, written)) = Self::candidate(text) else { return Self::Other };
        let is_it = written[text.len()] == b':' && written[..text.len()].eq_ignore_ascii_case(text);
        if is_it { known } else { Self::Other }
    }

    /// The only name that `text` may be, and how RFCs write it.
    #[inline(always)]
    pub(super) fn candidate(text: &[u8]) -> Option<(Self, &'static Written)> {
        let (first, last) = (text.first()?, text.last()?);
        let (written, known) = &NAMES[SLOTS[slot(text.len(), *first, *last)] as usize];
        (text.len() < written.len()).then_some((*known, written))
    }
}

/// A name, a colon, and zeros.
pub(super) type Written = [u8; 32];

const fn written(name: &[u8]) -> Written {
    let mut written = [0; 32];
    let mut at = 0;
    while at < name.len() {
        written[at] = name[at];
        at += 1;
    }
    written[at] = b':';
    written
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
        let mut len = 0;
        while name[len] != b':' {
            len += 1;
        }
        let slot = slot(len, name[0], name[len - 1]);
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
static NAMES: [(Written, Name); 73] = [
    (written(b"Accept"), Name::Accept),
    (written(b"Alert-Info"), Name::AlertInfo),
    (written(b"Allow"), Name::Allow),
    (written(b"Authentication-Info"), Name::AuthenticationInfo),
    (written(b"Authorization"), Name::Authorization),
    (written(b"Call-ID"), Name::CallId),
    (written(b"i"), Name::CallId),
    (written(b"Call-Info"), Name::CallInfo),
    (written(b"Contact"), Name::Contact),
    (written(b"m"), Name::Contact),
    (written(b"Content-Disposition"), Name::ContentDisposition),
    (written(b"Content-Encoding"), Name::ContentEncoding),
    (written(b"e"), Name::ContentEncoding),
    (written(b"Content-Language"), Name::ContentLanguage),
    (written(b"Content-Length"), Name::ContentLength),
    (written(b"l"), Name::ContentLength),
    (written(b"Content-Type"), Name::ContentType),
    (written(b"c"), Name::ContentType),
    (written(b"CSeq"), Name::CSeq),
    (written(b"Date"), Name::Date),
    (written(b"Diversion"), Name::Diversion),
    (written(b"Event"), Name::Event),
    (written(b"o"), Name::Event),
    (written(b"Expires"), Name::Expires),
    (written(b"From"), Name::From),
    (written(b"f"), Name::From),
    (written(b"Geolocation"), Name::Geolocation),
    (written(b"Geolocation-Error"), Name::GeolocationError),
    (written(b"Geolocation-Routing"), Name::GeolocationRouting),
    (written(b"History-Info"), Name::HistoryInfo),
    (written(b"Max-Forwards"), Name::MaxForwards),
    (written(b"MIME-Version"), Name::MimeVersion),
    (written(b"Min-Expires"), Name::MinExpires),
    (written(b"Min-SE"), Name::MinSe),
    (written(b"P-Access-Network-Info"), Name::PAccessNetworkInfo),
    (written(b"P-Asserted-Identity"), Name::PAssertedIdentity),
    (written(b"P-Preferred-Identity"), Name::PPreferredIdentity),
    (written(b"Path"), Name::Path),
    (written(b"Priority"), Name::Priority),
    (written(b"Privacy"), Name::Privacy),
    (written(b"Proxy-Authenticate"), Name::ProxyAuthenticate),
    (written(b"Proxy-Authorization"), Name::ProxyAuthorization),
    (written(b"Proxy-Require"), Name::ProxyRequire),
    (written(b"RAck"), Name::RAck),
    (written(b"RSeq"), Name::RSeq),
    (written(b"Reason"), Name::Reason),
    (written(b"Record-Route"), Name::RecordRoute),
    (written(b"Refer-To"), Name::ReferTo),
    (written(b"r"), Name::ReferTo),
    (written(b"Referred-By"), Name::ReferredBy),
    (written(b"b"), Name::ReferredBy),
    (written(b"Remote-Party-ID"), Name::RemotePartyId),
    (written(b"Replaces"), Name::Replaces),
    (written(b"Require"), Name::Require),
    (written(b"Retry-After"), Name::RetryAfter),
    (written(b"Route"), Name::Route),
    (written(b"Server"), Name::Server),
    (written(b"Service-Route"), Name::ServiceRoute),
    (written(b"Session-Expires"), Name::SessionExpires),
    (written(b"x"), Name::SessionExpires),
    (written(b"Subject"), Name::Subject),
    (written(b"s"), Name::Subject),
    (written(b"Subscription-State"), Name::SubscriptionState),
    (written(b"Supported"), Name::Supported),
    (written(b"k"), Name::Supported),
    (written(b"To"), Name::To),
    (written(b"t"), Name::To),
    (written(b"Unsupported"), Name::Unsupported),
    (written(b"User-Agent"), Name::UserAgent),
    (written(b"Via"), Name::Via),
    (written(b"v"), Name::Via),
    (written(b"Warning"), Name::Warning),
    (written(b"WWW-Authenticate"), Name::WwwAuthenticate),
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
