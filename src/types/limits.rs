//! Every bound of the server in one place: name, unit, and what happens when it is reached.

/// On a stream, a SIP message over this size is answered 513 (RFC 3261 section 21.5.7), if its header section is no larger,
/// and the connection is closed. No datagram is larger (RFC 768).
pub const SIP_MESSAGE_BYTES_MAX: usize = 65_535;
/// A request over this size goes over a stream where one leads to the same trunk, else it is sent as a datagram all the
/// same, and counted (RFC 3261 section 18.1.1).
pub const SIP_DATAGRAM_BYTES_MAX: usize = 1_300;
/// A body over this size is answered 513.
pub const SIP_BODY_BYTES_MAX: usize = 32_768;
/// More header lines than this are answered 400.
pub const SIP_HEADERS_MAX: usize = 128;
/// A header line over this size, the lines that continue it included, is answered 400.
pub const SIP_HEADER_BYTES_MAX: usize = 8_192;
/// More parameters behind one address or Via are answered 400.
pub const SIP_PARAMETERS_MAX: usize = 32;
/// A longer Request-URI is answered 414 (RFC 3261 section 21.4.12).
pub const SIP_REQUEST_URI_BYTES_MAX: usize = 2_048;
/// A request that has come through more hops than a Max-Forwards of 70 allows (RFC 3261 section 8.1.1.6), by its Via
/// values, is answered 483.
pub const SIP_VIAS_MAX: usize = 70;
/// Bytes taken from a connection at once. A connection buffers one incomplete message and no more than this beyond it.
pub const STREAM_READ_BYTES_MAX: usize = 4_096;
/// Live transactions; a new request above it is answered 503 without state. Emergency calls and requests of live calls are
/// exempt.
pub const TRANSACTIONS_MAX: usize = 200_000;
/// Refused emergency calls whose callers hear a tone at a time; a further one is answered at once.
pub const REFUSAL_TONES_MAX: usize = 16;
/// Datagrams of senders that nothing is known of, emergency calls and others apart, that wait for time; a further one displaces
/// the oldest of whoever sends most.
pub const STRANGERS_WAITING_MAX: usize = 4_096;
/// ... and their bytes.
pub const STRANGERS_BYTES_MAX: usize = 8 << 20;
/// Emergency calls of one callback number that may be called back; the oldest is forgotten.
pub const CALLBACKS_PER_NUMBER_MAX: usize = 16;
/// Notices of which it is kept that a user has acknowledged them; the oldest is forgotten.
pub const ACKNOWLEDGEMENTS_PER_USER_MAX: u32 = 16;
/// Notices of emergency calls on their way to telephones; a further one fails, and is logged.
pub const NOTIFICATIONS_MAX: usize = 1_000;
/// ... and of POSTs to web servers; a further one fails, and is logged.
pub const POSTS_MAX: usize = 64;
/// Live calls; an INVITE above it is answered 503 with Retry-After. Emergency calls are exempt, up to `emergency.reserved_calls`
/// above it; then the newest ordinary call ends for each.
pub const CALLS_MAX: usize = 20_000;
/// Contacts per address-of-record. A further one displaces the one that expires soonest, those without a connection first; a
/// REGISTER that alone names more is answered 403.
pub const CONTACTS_PER_AOR_MAX: usize = 10;
/// Contact URI, instance or Call-ID of a binding; a REGISTER with a longer one is answered 400, a longer User-Agent is cut.
pub const BINDING_TEXT_BYTES_MAX: usize = 512;
/// Path values of a binding; a REGISTER with more is answered 400.
pub const PATH_MAX: usize = 5;
/// A device must speak this often on a flow that is to be kept (RFC 5626 section 4.4).
pub const FLOW_TIMER_S: u32 = 120;
/// ... and may be late by this much; then its connection is closed, unless its user is in a call.
pub const FLOW_TIMER_GRACE_S: u64 = 30;
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
/// Refused credentials of one source within [`REFUSALS_WINDOW_S`]; its requests are then dropped until the window ends, unless
/// somebody is registered from there.
pub const REFUSALS_PER_SOURCE_MAX: u32 = 20;
/// Refused credentials for one user from anywhere; credentials for that user are then dropped likewise.
pub const REFUSALS_PER_USER_MAX: u32 = 50;
/// From the first refusal that is counted.
pub const REFUSALS_WINDOW_S: u64 = 300;
/// Sources, and users, whose refusals are counted; the oldest is forgotten.
pub const REFUSAL_ENTRIES_MAX: usize = 65_536;
/// Sources of datagrams whose bytes are counted against the answers to them, and addresses that have shown that they hear us; the
/// one that was entered first is forgotten, and then starts anew.
pub const DATAGRAM_SOURCES_MAX: usize = 65_536;
/// Bytes of one such source that can be answered with as many; further ones do not count.
pub const DATAGRAM_CREDIT_BYTES_MAX: usize = 131_072;
/// For so long after that, an address is answered however much it takes.
pub const PROVEN_S: u64 = 3_600;
/// Media sections of one SDP body; more are answered 488.
pub const MEDIA_SECTIONS_MAX: usize = 8;
/// SDP lines of one body; more are answered 488.
pub const SDP_LINES_MAX: usize = 1_000;
/// Formats read of one m-line: there are no more payload types; further ones are ignored.
pub const SDP_FORMATS_MAX: usize = 128;
/// `a=crypto` lines read per media section; further ones are ignored.
pub const CRYPTO_LINES_MAX: usize = 16;
/// SSRCs with their own replay window per leg and direction; one that makes room leaves its highest index, and goes on from there.
pub const SSRCS_PER_LEG_MAX: usize = 16;
/// SSRCs that one key protects in one direction, one after the other, as at each hold and transfer; packets of a further one are
/// dropped. No telephone holds so often in a call.
pub const SSRCS_PER_KEY_MAX: usize = 512;
/// SSRCs per leg whose loss and jitter are measured at a time; the sums of one that makes room stay.
pub const SSRCS_MEASURED_MAX: usize = 4;
/// Payload types of one media section that are told apart; the packets of further ones have no codec and no jitter.
pub const FORMATS_PER_SECTION_MAX: usize = 32;
/// Largest media packet relayed; a larger one is dropped.
pub const PACKET_BYTES_MAX: usize = 2_048;
/// Open TCP and TLS connections, and half of the process's descriptors. Where all are taken, the source that has most of peers whom nobody
/// knows makes room for a further one with its oldest; where there is none, the further one is closed at once.
pub const CONNECTIONS_MAX: usize = 20_000;
/// ... of one source, which may be a whole office behind one address; further ones are closed at once.
pub const CONNECTIONS_PER_SOURCE_MAX: usize = 2_000;
/// Closed connections of whose end the core is still to be told; none is accepted while there are more.
pub const CONNECTIONS_ENDING_MAX: usize = 1_000;
/// Alternative names that are read from a peer's certificate; further ones are ignored.
pub const CERTIFICATE_NAMES_MAX: usize = 128;
/// TLS handshakes that peers have begun and not finished; for a further one the oldest of the source that has most makes room.
pub const TLS_HANDSHAKES_MAX: usize = 1_000;
/// ... of one source; a further connection is closed at once.
pub const TLS_HANDSHAKES_PER_SOURCE_MAX: usize = 250;
/// Messages waiting for one slow TCP or TLS peer; the connection is closed above it.
pub const SEND_QUEUE_MAX: usize = 256;
/// Media ports of other programs, and media threads that are behind, that one call gets past; at a further one it ends with 503, an emergency call only where nobody
/// has answered it.
pub const OCCUPIED_PORTS_PER_CALL_MAX: u8 = 4;
/// Commands waiting for one media worker; the call that needs one more fails with 503.
pub const MEDIA_COMMANDS_MAX: usize = 4_096;
/// Events of one media worker on their way to the core; further ones wait in the worker, never lost: a leg has at most
/// three, two for each silence, and one for each look at it. The worker's load is told only while none waits.
pub const MEDIA_EVENTS_MAX: usize = 4_096;
/// Ringing time before an unanswered call ends with 408 to the caller.
pub const RING_S_MAX: u64 = 180;
/// Time for the final answer to a re-INVITE of ours; it is then cancelled, and whoever asked for it gets 408.
pub const REINVITE_S_MAX: u64 = 180;
/// Time for the answer to an UPDATE with an offer; then 504 (RFC 3311 section 5.2), before its sender gives up after 32 s.
pub const UPDATE_S_MAX: u64 = 20;
/// Characters of a user's name, all ASCII; adding a user with more is refused, and credentials for more are for nobody.
pub const USER_NAME_CHARS_MAX: usize = 64;
/// Numbers of one `[pbx.NAME]`; a configuration with more is refused.
pub const PBX_NUMBERS_MAX: usize = 10_000;
/// Users of one server; adding one more is refused.
pub const USERS_MAX: usize = 100_000;
/// Call detail records kept; the oldest makes room.
pub const CDRS_MAX: u32 = 1_000_000;
/// Binding changes, and as many call detail records, waiting for a disk that fails or hangs; the oldest is forgotten, counted
/// and logged.
pub const STORE_BACKLOG_MAX: usize = 100_000;
/// Call detail records of one admin reply; a larger `limit` is lowered to it.
pub const ADMIN_CDRS_MAX: u32 = 1_000;
/// Tokens of the admin interface.
pub const TOKENS_MAX: usize = 100;
/// Orders in the audit log; the oldest makes room.
pub const AUDIT_ENTRIES_MAX: u32 = 100_000;
/// Refused orders in it, which make room for each other only: whoever may give no order must not push orders out.
pub const AUDIT_REFUSALS_MAX: u32 = 1_000;
/// Each text of such an entry, which a client of the admin interface may have chosen; a longer one is cut.
pub const AUDIT_TEXT_BYTES_MAX: usize = 256;
/// Connections to the admin interface at once; further ones wait.
pub const ADMIN_CONNECTIONS_MAX: usize = 64;
/// Of one source; further ones are closed.
pub const ADMIN_CONNECTIONS_PER_SOURCE_MAX: usize = 32;
/// Numbers, ranges and beginnings of numbers in the inbound map; more are refused at load.
pub const INBOUND_NUMBERS_MAX: usize = 2_000;
/// Calls of one caller to one number that are on their way from trunk to trunk at a time; one more is taken for a loop, and
/// answered 482. Of anonymous callers, Max-Forwards alone bounds them.
pub const ONWARD_CALLS_MAX: usize = 10;
/// Seconds by which a signature of a caller's number may be older or younger than the call (RFC 8224 section 4.1 step 5); another
/// is not believed.
pub const PASSPORT_AGE_S_MAX: u64 = 60;
/// Signatures of one call, those of its diversions included; a call with more is not verified.
pub const PASSPORTS_MAX: usize = 4;
/// Address of a certificate; one that is longer is not fetched.
pub const PASSPORT_URL_BYTES_MAX: usize = 512;
/// Certificates of signatures that are being fetched; further ones are not, and their calls are not verified.
pub const CERTIFICATE_FETCHES_MAX: usize = 16;
/// What a web server may send as a certificate; more is not read.
pub const CERTIFICATE_REPLY_BYTES_MAX: usize = 32_768;
/// Certificates from that of a signature to its authority; further ones are not read.
pub const CERTIFICATE_CHAIN_MAX: usize = 6;
/// Certificates of signatures that are kept; that which would be of use for the shortest time makes room.
pub const SIGNING_CERTIFICATES_MAX: usize = 256;
/// Calls that wait for a certificate; a further one goes on unverified.
pub const VERIFICATIONS_WAITING_MAX: usize = 1_000;
/// Signatures that are remembered; the oldest makes room.
pub const SIGNATURES_SEEN_MAX: usize = 65_536;
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
/// Characters of a display name; a longer one is cut.
pub const DISPLAY_NAME_CHARS_MAX: usize = 64;
/// Header values that pass from one leg to the other in one message; one that would exceed it stays behind.
pub const PASSED_HEADERS_BYTES_MAX: usize = 1_024;
/// ... and their lines.
pub const PASSED_HEADERS_MAX: usize = 12;
/// Servers that a dialog's requests go through; an INVITE or SUBSCRIBE with more Record-Routes is answered 400, and of a
/// response with more the rest is not kept.
pub const ROUTES_MAX: usize = 32;
/// ... and the bytes of their addresses.
pub const ROUTES_BYTES_MAX: usize = 8_192;
/// Characters of the user part by which a trunk names a caller; whoever has a longer one is shown as anonymous.
pub const CALLER_CHARS_MAX: usize = 64;
/// Call-ID and tags in a document that names a dialog; a dialog with a longer one is not named.
pub const DIALOG_NAME_BYTES_MAX: usize = 256;
/// Body of a text message; a longer one is answered 413. RFC 3428 section 8 allows 1300 bytes for the whole request.
pub const MESSAGE_BODY_BYTES_MAX: usize = 1_024;
/// Text messages on their way; a further one is answered 503 with Retry-After.
pub const MESSAGES_MAX: usize = 10_000;
/// ... of one sender.
pub const MESSAGES_PER_SENDER_MAX: usize = 16;
/// Subscriptions to events; a further one is answered 503 with Retry-After.
pub const SUBSCRIPTIONS_MAX: usize = 100_000;
/// ... of one user; a further one is answered 403.
pub const SUBSCRIPTIONS_PER_USER_MAX: usize = 256;
/// Shortest subscription; a shorter one is answered 423 with Min-Expires.
pub const SUBSCRIPTION_EXPIRES_S_MIN: u32 = 60;
/// Longest subscription; a longer request is shortened to it.
pub const SUBSCRIPTION_EXPIRES_S_MAX: u32 = 7_200;
/// Subscription when the subscriber names no time.
pub const SUBSCRIPTION_EXPIRES_S_DEFAULT: u32 = 3_600;
/// `id` of an Event header; a longer one is answered 400.
pub const EVENT_ID_BYTES_MAX: usize = 64;
/// A SUBSCRIBE, whose dialog is kept; a longer one is answered 513.
pub const SUBSCRIBE_BYTES_MAX: usize = 4_096;
/// Calls of one user that a lamp is told of; further ones are not.
pub const LAMP_DIALOGS_MAX: usize = 32;
/// Records of one DNS answer, and servers of one destination; further ones are ignored.
pub const DNS_RECORDS_MAX: usize = 32;
/// DNS questions to locate one destination; records that would need a further one are ignored.
pub const DNS_QUESTIONS_MAX: usize = 64;
/// Servers that an operator lists for one trunk; a configuration with more is refused.
pub const TRUNK_SERVERS_MAX: usize = 16;
/// Servers of one trunk that one call tries; after that, it goes on to the next trunk.
pub const TRUNK_SERVERS_PER_CALL_MAX: usize = 4;
/// Looks at the media of live calls that wait for their workers; one more is answered 503.
pub const INSPECTIONS_MAX: usize = 256;
/// Begins of one user's, or one trunk's, calls outside that are counted against a limit; it is no lower than any limit.
pub const OUTSIDE_CALLS_COUNTED_MAX: usize = 65_535;
/// Users whose devices are asked at a time to fetch their configuration again; one more is refused.
pub const RESYNCS_MAX: usize = 256;
/// Time for a device to answer that; then it counts as silent.
pub const RESYNC_ANSWER_S_MAX: u64 = 10;
/// Earlier stops of a call from a trunk that are told on, of each kind of header; further ones are not.
pub const HISTORY_ENTRIES_MAX: usize = 10;
/// Index of such a stop; one with a longer index is not told on.
pub const HISTORY_INDEX_CHARS_MAX: usize = 32;
/// Transfers by which one person reached another; a REFER for one more is answered 403. Emergency calls are exempt.
pub const TRANSFERS_MAX: u8 = 8;
/// Times the party that stays in a transfer is offered the new one's media while its telephone is busy with an offer of its
/// own; the transfer then fails.
pub const HANDOVER_OFFERS_MAX: u8 = 5;
/// Time for the answer to a request that passes from one leg of a call to the other; then 504, before its sender gives up after
/// 32 s.
pub const RELAYED_S_MAX: u64 = 30;
