//! A received message: its bytes and an index of where each header stands.

use bytes::Bytes;

use super::headers::{CSeq, NameAddr, Via};

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
    /// Kept as text: [`Message::method_text`].
    Other,
}

impl Method {
    /// `"OTHER"` for [`Method::Other`].
    pub const fn as_str(self) -> &'static str {
        todo!()
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

/// One SIP message. Cheap to clone: the bytes are shared.
///
/// Lazy: [`Message::parse`] splits lines and names headers; values are read when asked for. A folded header
/// (RFC 3261 section 7.3.1) has its line breaks turned into spaces first, the only case in which bytes are copied.
#[derive(Clone, Debug)]
pub struct Message {
    bytes: Bytes,
}

impl Message {
    /// Indexes one framed message. Errors are those that make an answer impossible or pointless: no start line, no
    /// header end, text that is not UTF-8, too many headers. Everything else is [`super::validate`]'s to name.
    pub fn parse(bytes: Bytes) -> Result<Self, super::Fault> {
        let _ = bytes;
        todo!()
    }

    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    pub fn is_request(&self) -> bool {
        todo!()
    }

    /// `None` for a response.
    pub fn method(&self) -> Option<Method> {
        todo!()
    }

    /// The method as it stands on the request line; the CSeq method of a response.
    pub fn method_text(&self) -> &str {
        todo!()
    }

    /// Request-URI as text; empty for a response.
    pub fn request_uri(&self) -> &str {
        todo!()
    }

    /// Status code of a response, 0 for a request.
    pub fn status(&self) -> u16 {
        todo!()
    }

    pub fn reason_phrase(&self) -> &str {
        todo!()
    }

    /// The first header line of this name, trimmed.
    pub fn header(&self, name: Name) -> Option<&str> {
        let _ = name;
        todo!()
    }

    /// Every value of a list header in order: several lines and comma-separated values on one line alike, commas in
    /// quotes and angle brackets respected (RFC 3261 section 7.3.1). Do not use for headers whose grammar has bare
    /// commas (Authorization, Date, ...): use [`Message::lines`].
    pub fn values(&self, name: Name) -> impl Iterator<Item = &str> {
        let _ = name;
        std::iter::empty()
    }

    /// Every header line of this name, trimmed, not split at commas.
    pub fn lines(&self, name: Name) -> impl Iterator<Item = &str> {
        let _ = name;
        std::iter::empty()
    }

    /// All header lines as `(name as written, known name, value)` in order.
    pub fn all(&self) -> impl Iterator<Item = (&str, Name, &str)> {
        std::iter::empty()
    }

    /// A header the server has no [`Name`] for, by case-insensitive text.
    pub fn header_text(&self, name: &str) -> Option<&str> {
        let _ = name;
        todo!()
    }

    /// The topmost Via.
    pub fn via(&self) -> Option<Via<'_>> {
        todo!()
    }

    pub fn from(&self) -> Option<NameAddr<'_>> {
        todo!()
    }

    pub fn to(&self) -> Option<NameAddr<'_>> {
        todo!()
    }

    /// The first Contact. `*` reads as a `NameAddr` whose `uri` is `"*"`.
    pub fn contact(&self) -> Option<NameAddr<'_>> {
        todo!()
    }

    pub fn call_id(&self) -> &str {
        todo!()
    }

    pub fn cseq(&self) -> Option<CSeq<'_>> {
        todo!()
    }

    pub fn from_tag(&self) -> Option<&str> {
        todo!()
    }

    pub fn to_tag(&self) -> Option<&str> {
        todo!()
    }

    /// Body bytes by the one Content-Length rule of [`super::frame`].
    pub fn body(&self) -> Bytes {
        todo!()
    }

    /// The `application/sdp` body: the whole body, or the first such part of a `multipart/*` body (RFC 5621).
    pub fn sdp(&self) -> Option<Bytes> {
        todo!()
    }
}
