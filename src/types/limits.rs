//! Every bound of the server in one place: name, unit, and what happens when it is reached.

/// A SIP message over this size is dropped; on a stream the connection is closed after a 513 (RFC 3261 section 21.5.7).
pub const SIP_MESSAGE_BYTES_MAX: usize = 65_535;
/// A body over this size is answered 513.
pub const SIP_BODY_BYTES_MAX: usize = 32_768;
/// More header lines than this are answered 400.
pub const SIP_HEADERS_MAX: usize = 128;
/// Live transactions; a new request above it is answered 503 without state. Emergency calls and requests of live calls are
/// exempt.
pub const TRANSACTIONS_MAX: usize = 200_000;
/// Live calls; an INVITE above it is answered 503 with Retry-After. Emergency calls are exempt.
pub const CALLS_MAX: usize = 20_000;
/// Contacts per address-of-record; a REGISTER above it is answered 403.
pub const CONTACTS_PER_AOR_MAX: usize = 10;
/// Contact URI, instance or Call-ID of a binding; a REGISTER with a longer one is answered 400, a longer User-Agent is cut.
pub const BINDING_TEXT_BYTES_MAX: usize = 512;
/// Branches of one fork; further contacts are not called.
pub const FORK_WIDTH_MAX: usize = 10;
/// Provisional responses that wait for the PRACK of one before them; a further one is not sent.
pub const PROVISIONALS_WAITING_MAX: usize = 8;
/// Early dialogs of one INVITE whose reliable responses are acknowledged; those of a further one are dropped.
pub const EARLY_DIALOGS_MAX: usize = 16;
/// Shortest registration; a shorter one is answered 423 with Min-Expires.
pub const REGISTRATION_EXPIRES_S_MIN: u32 = 60;
/// Longest registration; a longer request is shortened to it.
pub const REGISTRATION_EXPIRES_S_MAX: u32 = 7_200;
/// Registration when the device names none (RFC 3261 section 10.2.1.1).
pub const REGISTRATION_EXPIRES_S_DEFAULT: u32 = 3_600;
/// Lifetime of a digest nonce; an older one is answered with `stale=true`.
pub const NONCE_LIFETIME_S: u64 = 300;
/// Digest nonces remembered against replay; the oldest is forgotten, and is then stale.
pub const NONCES_MAX: usize = 65_536;
/// Media sections of one SDP body; more are answered 488.
pub const MEDIA_SECTIONS_MAX: usize = 8;
/// SDP lines of one body; more are answered 488.
pub const SDP_LINES_MAX: usize = 1_000;
/// `a=crypto` lines read per media section; further ones are ignored.
pub const CRYPTO_LINES_MAX: usize = 16;
/// SSRCs with their own SRTP context per leg and direction; packets of a further one are dropped.
pub const SSRCS_PER_LEG_MAX: usize = 16;
/// Largest media packet relayed; a larger one is dropped.
pub const PACKET_BYTES_MAX: usize = 2_048;
/// Open TCP and TLS connections; further ones are closed at once.
pub const CONNECTIONS_MAX: usize = 20_000;
/// Messages waiting for one slow TCP or TLS peer; the connection is closed above it.
pub const SEND_QUEUE_MAX: usize = 256;
/// Commands waiting for one media worker; the call that needs one more fails with 503.
pub const MEDIA_COMMANDS_MAX: usize = 4_096;
/// Events of one media worker on their way to the core; further ones wait in the worker, never lost: a leg has at most
/// three.
pub const MEDIA_EVENTS_MAX: usize = 4_096;
/// Ringing time before an unanswered call ends with 408 to the caller.
pub const RING_S_MAX: u64 = 180;
/// Users of one server; adding one more is refused.
pub const USERS_MAX: usize = 100_000;
/// Call detail records kept; the oldest makes room.
pub const CDRS_MAX: u32 = 1_000_000;
/// Binding changes and call detail records waiting for a disk that fails; the oldest is forgotten, and logged.
pub const STORE_BACKLOG_MAX: usize = 100_000;
/// Call detail records of one admin reply; a larger `limit` is lowered to it.
pub const ADMIN_CDRS_MAX: u32 = 1_000;
/// Ring groups of one configuration; more are refused at load.
pub const GROUPS_MAX: usize = 200;
/// Members of one ring group; more are refused at load.
pub const GROUP_MEMBERS_MAX: usize = 20;
/// Times that one call is forwarded, here and before it came here; once more is answered 483.
pub const FORWARD_HOPS_MAX: usize = 5;
/// Characters of a forwarding target; a longer one is refused.
pub const FORWARD_TARGET_CHARS_MAX: usize = 64;
/// Branches that the servers behind this one may make of one call at a time (RFC 5393 section 5.3.2); a caller's larger
/// Max-Breadth is lowered to it, and branches share it.
pub const BREADTH_MAX: usize = 60;
/// Branches that ring at once for a ring group; contacts of members beyond it are not called.
pub const GROUP_FORK_WIDTH_MAX: usize = 40;
