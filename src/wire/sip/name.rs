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
        match text {
            "INVITE" => Self::Invite,
            "ACK" => Self::Ack,
            "BYE" => Self::Bye,
            "CANCEL" => Self::Cancel,
            "REGISTER" => Self::Register,
            "OPTIONS" => Self::Options,
            "INFO" => Self::Info,
            "UPDATE" => Self::Update,
            "PRACK" => Self::Prack,
            "SUBSCRIBE" => Self::Subscribe,
            "NOTIFY" => Self::Notify,
            "REFER" => Self::Refer,
            "MESSAGE" => Self::Message,
            "PUBLISH" => Self::Publish,
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
    /// The longest name of this table.
    const BYTES_MAX: usize = 21;

    /// [`Name::Other`] for a header the server does not look at.
    pub fn from_bytes(text: &[u8]) -> Self {
        let mut lower = [0; Self::BYTES_MAX];
        let Some(lower) = lower.get_mut(..text.len()) else {
            return Self::Other;
        };
        lower.copy_from_slice(text);
        lower.make_ascii_lowercase();
        Self::from_lower(lower)
    }

    fn from_lower(lower: &[u8]) -> Self {
        match lower {
            b"accept" => Self::Accept,
            b"alert-info" => Self::AlertInfo,
            b"allow" => Self::Allow,
            b"authentication-info" => Self::AuthenticationInfo,
            b"authorization" => Self::Authorization,
            b"call-id" | b"i" => Self::CallId,
            b"call-info" => Self::CallInfo,
            b"contact" | b"m" => Self::Contact,
            b"content-disposition" => Self::ContentDisposition,
            b"content-encoding" | b"e" => Self::ContentEncoding,
            b"content-language" => Self::ContentLanguage,
            b"content-length" | b"l" => Self::ContentLength,
            b"content-type" | b"c" => Self::ContentType,
            b"cseq" => Self::CSeq,
            b"date" => Self::Date,
            b"diversion" => Self::Diversion,
            b"event" | b"o" => Self::Event,
            b"expires" => Self::Expires,
            b"from" | b"f" => Self::From,
            b"geolocation" => Self::Geolocation,
            b"geolocation-error" => Self::GeolocationError,
            b"geolocation-routing" => Self::GeolocationRouting,
            b"history-info" => Self::HistoryInfo,
            b"max-forwards" => Self::MaxForwards,
            b"mime-version" => Self::MimeVersion,
            b"min-expires" => Self::MinExpires,
            b"min-se" => Self::MinSe,
            b"p-access-network-info" => Self::PAccessNetworkInfo,
            b"p-asserted-identity" => Self::PAssertedIdentity,
            b"p-preferred-identity" => Self::PPreferredIdentity,
            b"path" => Self::Path,
            b"priority" => Self::Priority,
            b"privacy" => Self::Privacy,
            b"proxy-authenticate" => Self::ProxyAuthenticate,
            b"proxy-authorization" => Self::ProxyAuthorization,
            b"proxy-require" => Self::ProxyRequire,
            b"rack" => Self::RAck,
            b"rseq" => Self::RSeq,
            b"reason" => Self::Reason,
            b"record-route" => Self::RecordRoute,
            b"refer-to" | b"r" => Self::ReferTo,
            b"referred-by" | b"b" => Self::ReferredBy,
            b"remote-party-id" => Self::RemotePartyId,
            b"replaces" => Self::Replaces,
            b"require" => Self::Require,
            b"retry-after" => Self::RetryAfter,
            b"route" => Self::Route,
            b"server" => Self::Server,
            b"session-expires" | b"x" => Self::SessionExpires,
            b"subject" | b"s" => Self::Subject,
            b"subscription-state" => Self::SubscriptionState,
            b"supported" | b"k" => Self::Supported,
            b"to" | b"t" => Self::To,
            b"unsupported" => Self::Unsupported,
            b"user-agent" => Self::UserAgent,
            b"via" | b"v" => Self::Via,
            b"warning" => Self::Warning,
            b"www-authenticate" => Self::WwwAuthenticate,
            _ => Self::Other,
        }
    }
}

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
