//! What a peer has proven to be.

/// Alternative names of a certificate (RFC 5280 section 4.2.1.6) whose key the peer of a connection has, as written, at most
/// [`CERTIFICATE_NAMES_MAX`](super::limits::CERTIFICATE_NAMES_MAX) together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubjectNames {
    /// DNS names.
    pub dns: Vec<String>,
    /// URIs.
    pub uris: Vec<String>,
}
