//! Session timers of one dialog (RFC 4028): what the two sides agree on, and when something is due.
//!
//! ```text
//!            accept(), answered()            due()
//!   no timer ───────────────────► running ──────────► Refresh, if we are the refresher: half the interval has passed
//!                                    ▲     └────────► Expired: nobody refreshed in time (section 10)
//!                                    └─ accept(), answered(), heard()
//! ```
//!
//! Decisions
//! - A peer without the extension is refreshed by us all the same, which section 7.2 allows "purely for its own benefit":
//!   nothing else finds out that a telephone has vanished. Any answer of such a peer is a sign of life.
//! - Who refreshes is the peer's choice. If it has none, the peer does if it asked for a timer, and else we do.
//! - Intervals are cut to `INTERVAL_S_MAX`, even where Min-SE asks for more; otherwise a peer could switch the timer off.
//! - A Session-Expires or Min-SE that cannot be read counts as absent.

use crate::{
    types::{Duration, Instant},
    wire::sip::{Message, Name},
};

/// The option tag (section 12.2).
pub const OPTION_TAG: &str = "timer";
/// The interval we ask for, in seconds (section 4 recommends it).
const INTERVAL_S: u32 = 1_800;
/// The shortest interval anyone may ask for, in seconds (section 4).
const INTERVAL_S_MIN: u32 = 90;
/// The longest interval agreed on, in seconds.
const INTERVAL_S_MAX: u32 = 86_400;
/// A session ends this long before its expiration, or a third of the interval before it if that is less (section 10).
const MARGIN: Duration = Duration::from_secs(32);

/// A header line.
pub type Header = (&'static str, String);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refresher {
    Us,
    Peer,
}

/// What has to be done about a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Send a refresh; its outcome is told by [`SessionTimer::answered`], [`SessionTimer::heard`] or
    /// [`SessionTimer::retry_at`].
    Refresh,
    /// End the session with BYE.
    Expired,
}

/// The timer of one dialog.
#[derive(Debug)]
pub struct SessionTimer {
    /// We want a timer even if the peer does not.
    is_wanted: bool,
    has_peer_extension: bool,
    /// The largest Min-SE the peer's side has stated, in seconds.
    min_s: u32,
    /// A 422 was answered with a longer interval.
    was_raised: bool,
    running: Option<Running>,
}

#[derive(Clone, Copy, Debug)]
struct Running {
    interval: Duration,
    refresher: Refresher,
    /// `None`: the peer refreshes, or a refresh is on its way.
    refresh_at: Option<Instant>,
    ends_at: Instant,
}

impl SessionTimer {
    /// `is_wanted`: without a timer of the peer's there is one of ours.
    pub const fn new(is_wanted: bool) -> Self {
        Self { is_wanted, has_peer_extension: false, min_s: INTERVAL_S_MIN, was_raised: false, running: None }
    }

    /// The Min-SE of the 422 that an INVITE or UPDATE gets for too short an interval (section 9); `None`: acceptable.
    pub fn refusal(request: &Message) -> Option<Header> {
        let interval = session_expires(request)?.0;
        (interval < INTERVAL_S_MIN && has_extension(request, Name::Supported))
            .then(|| ("Min-SE", INTERVAL_S_MIN.to_string()))
    }

    /// As UAS: the session begins, or is refreshed, with a 2xx to this INVITE or UPDATE. Returns the headers of that 2xx.
    pub fn accept(&mut self, now: Instant, request: &Message) -> Vec<Header> {
        self.has_peer_extension = has_extension(request, Name::Supported);
        self.min_s = self.min_s.max(min_se(request).unwrap_or(0).min(INTERVAL_S_MAX));
        let asked = session_expires(request);
        let interval_s = match asked {
            Some((interval_s, _)) => interval_s.min(INTERVAL_S.max(self.min_s)),
            None if self.is_wanted => self.offered_s(),
            None => {
                self.running = None;
                return Vec::new();
            }
        };
        let refresher = match asked {
            _ if !self.has_peer_extension => Refresher::Us,
            Some((_, Some(Role::Uac))) => Refresher::Peer,
            Some((_, Some(Role::Uas))) => Refresher::Us,
            Some((_, None)) => self.running.map_or(Refresher::Peer, |running| running.refresher),
            None => Refresher::Us,
        };
        let interval_s = self.run(now, interval_s, refresher);
        let role = match refresher {
            Refresher::Us => "uas",
            Refresher::Peer => "uac",
        };
        let mut headers = vec![("Session-Expires", format!("{interval_s};refresher={role}"))];
        if self.has_peer_extension {
            headers.push(("Require", OPTION_TAG.to_owned()));
        }
        headers
    }

    /// As UAC: the headers of an INVITE or UPDATE of ours (section 7.1; within a session, section 7.4).
    pub fn offer(&self) -> Vec<Header> {
        if !self.has_interest() {
            return Vec::new();
        }
        let interval_s = self.offered_s();
        let interval = match self.running.map(|running| running.refresher) {
            None => interval_s.to_string(),
            Some(Refresher::Us) => format!("{interval_s};refresher=uac"),
            Some(Refresher::Peer) => format!("{interval_s};refresher=uas"),
        };
        let mut headers = vec![("Session-Expires", interval)];
        if self.min_s > INTERVAL_S_MIN {
            headers.push(("Min-SE", self.min_s.to_string()));
        }
        headers
    }

    /// As UAC: a 2xx to our INVITE or UPDATE (section 7.2).
    pub fn answered(&mut self, now: Instant, response: &Message) {
        self.was_raised = false;
        self.has_peer_extension = has_extension(response, Name::Require) || has_extension(response, Name::Supported);
        match session_expires(response) {
            Some((interval_s, Some(Role::Uas))) => {
                self.run(now, interval_s, Refresher::Peer);
            }
            Some((interval_s, Some(Role::Uac) | None)) => {
                self.run(now, interval_s, Refresher::Us);
            }
            None if self.is_wanted => {
                self.run(now, self.offered_s(), Refresher::Us);
            }
            None => self.running = None,
        }
    }

    /// As UAC: a 422 to our INVITE or UPDATE. Whether it should be sent again, with a longer interval.
    pub fn may_retry(&mut self, response: &Message) -> bool {
        let Some(min_s) = min_se(response).filter(|min_s| *min_s <= INTERVAL_S_MAX) else { return false };
        let is_longer = self.has_interest() && min_s > self.offered_s() && !self.was_raised;
        if is_longer {
            self.was_raised = true;
            self.min_s = min_s;
        }
        is_longer
    }

    /// The peer has refused our refresh. That it lives is all that can be learned from one without the extension.
    pub fn heard(&mut self, now: Instant) {
        if let Some(running) = self.running.as_mut().filter(|_| !self.has_peer_extension) {
            running.restart(now);
        }
    }

    /// The refresh could not be sent now, or failed: the next attempt is at `at`, or after a while.
    pub fn retry_at(&mut self, now: Instant, at: Option<Instant>) {
        if let Some(running) = self.running.as_mut().filter(|running| running.refresh_at.is_none()) {
            running.refresh_at = Some(at.unwrap_or(now + running.interval / 8));
        }
    }

    /// What is due now, at most once for each refresh.
    pub fn due(&mut self, now: Instant) -> Option<Due> {
        let running = self.running.as_mut()?;
        if running.ends_at <= now {
            self.running = None;
            return Some(Due::Expired);
        }
        running.refresh_at.take_if(|at| *at <= now).map(|_| Due::Refresh)
    }

    /// When [`SessionTimer::due`] will have something to say.
    pub fn deadline(&self) -> Option<Instant> {
        let running = self.running?;
        Some(running.refresh_at.map_or(running.ends_at, |at| at.min(running.ends_at)))
    }

    /// Without it our requests say nothing of the session.
    const fn has_interest(&self) -> bool {
        self.is_wanted || self.running.is_some()
    }

    fn offered_s(&self) -> u32 {
        let current_s = self.running.and_then(|running| u32::try_from(running.interval.as_secs()).ok());
        current_s.unwrap_or(INTERVAL_S).max(self.min_s).min(INTERVAL_S_MAX)
    }

    fn run(&mut self, now: Instant, interval_s: u32, refresher: Refresher) -> u32 {
        let interval_s = interval_s.clamp(INTERVAL_S_MIN, INTERVAL_S_MAX);
        let interval = Duration::from_secs(u64::from(interval_s));
        let mut running = Running { interval, refresher, refresh_at: None, ends_at: now };
        running.restart(now);
        self.running = Some(running);
        interval_s
    }
}

impl Running {
    fn restart(&mut self, now: Instant) {
        self.refresh_at = (self.refresher == Refresher::Us).then(|| now + self.interval / 2);
        self.ends_at = now + (self.interval - MARGIN.min(self.interval / 3));
    }
}

/// Who refreshes, seen from the request that is refreshed by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Uac,
    Uas,
}

/// Interval in seconds and refresher (section 4).
fn session_expires(message: &Message) -> Option<(u32, Option<Role>)> {
    let value = message.header(Name::SessionExpires)?;
    let (seconds, params) = value.split_once(';').unwrap_or((value, ""));
    let refresher = params.split(';').filter_map(|param| param.split_once('=')).find_map(|(name, value)| {
        let is_refresher = name.trim().eq_ignore_ascii_case("refresher");
        match value.trim() {
            role if is_refresher && role.eq_ignore_ascii_case("uac") => Some(Role::Uac),
            role if is_refresher && role.eq_ignore_ascii_case("uas") => Some(Role::Uas),
            _ => None,
        }
    });
    Some((delta_seconds(seconds)?, refresher))
}

fn min_se(message: &Message) -> Option<u32> {
    let value = message.header(Name::MinSe)?;
    delta_seconds(value.split(';').next().unwrap_or_default())
}

fn delta_seconds(text: &str) -> Option<u32> {
    let digits = text.trim();
    digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok()).flatten()
}

fn has_extension(message: &Message, header: Name) -> bool {
    message.values(header).any(|tag| tag.eq_ignore_ascii_case(OPTION_TAG))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    const START: Instant = Instant::from_unix_ms(1_700_000_000_000);

    fn at(seconds: u64) -> Instant {
        START + Duration::from_secs(seconds)
    }

    fn message(start: &str, headers: &str) -> Message {
        let text = format!(
            "{start}\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1\nFrom: <sip:a@x>;tag=a\nTo: <sip:b@x>;tag=b\n\
             Call-ID: one\nCSeq: 1 INVITE\n{headers}Content-Length: 0\n\n"
        );
        Message::parse(Bytes::from(text.replace('\n', "\r\n"))).unwrap()
    }

    fn request(headers: &str) -> Message {
        message("INVITE sip:b@x SIP/2.0", headers)
    }

    fn response(headers: &str) -> Message {
        message("SIP/2.0 200 OK", headers)
    }

    /// Lines as they would be written.
    fn lines(headers: &[Header]) -> String {
        headers.iter().map(|(name, value)| format!("{name}: {value}\n")).collect()
    }

    #[test]
    fn as_uas_the_answer_follows_from_what_the_peer_asks() {
        let timer = "Supported: timer\n";
        for (asked, answer, refreshes_at, ends_at) in [
            (timer.to_owned(), "1800;refresher=uas\nRequire: timer\n", Some(900), 1_768),
            (format!("{timer}Session-Expires: 600\n"), "600;refresher=uac\nRequire: timer\n", None, 568),
            (format!("{timer}x: 600 ; Refresher = UAS\n"), "600;refresher=uas\nRequire: timer\n", Some(300), 568),
            (format!("{timer}Session-Expires: 90;refresher=uac\n"), "90;refresher=uac\nRequire: timer\n", None, 60),
            (format!("{timer}Session-Expires: 7200\n"), "1800;refresher=uac\nRequire: timer\n", None, 1_768),
            (
                format!("{timer}Session-Expires: 7200\nMin-SE: 3600\n"),
                "3600;refresher=uac\nRequire: timer\n",
                None,
                3_568,
            ),
            (format!("{timer}Session-Expires: soon\n"), "1800;refresher=uas\nRequire: timer\n", Some(900), 1_768),
            (
                format!("{timer}Session-Expires: 99999999999\n"),
                "1800;refresher=uas\nRequire: timer\n",
                Some(900),
                1_768,
            ),
            (
                format!("{timer}Session-Expires: 4294967295\nMin-SE: 4294967295\n"),
                "86400;refresher=uac\nRequire: timer\n",
                None,
                86_368,
            ),
            ("Session-Expires: 600;refresher=uac\n".to_owned(), "600;refresher=uas\n", Some(300), 568),
            ("Session-Expires: 5\n".to_owned(), "90;refresher=uas\n", Some(45), 60),
            (String::new(), "1800;refresher=uas\n", Some(900), 1_768),
        ] {
            let mut timer = SessionTimer::new(true);
            let headers = timer.accept(START, &request(&asked));
            assert_eq!(lines(&headers), format!("Session-Expires: {answer}"), "{asked}");
            if let Some(seconds) = refreshes_at {
                assert_eq!(timer.deadline(), Some(at(seconds)), "{asked}");
                assert_eq!(timer.due(at(seconds - 1)), None);
                assert_eq!(timer.due(at(seconds)), Some(Due::Refresh));
                assert_eq!(timer.due(at(seconds)), None, "a refresh is on its way");
            }
            assert_eq!(timer.deadline(), Some(at(ends_at)), "{asked}");
            assert_eq!(timer.due(at(ends_at)), Some(Due::Expired));
            assert_eq!(timer.deadline(), None);
        }
    }

    #[test]
    fn an_interval_below_90_s_is_refused_only_if_the_peer_knows_what_422_means() {
        let refusal = |headers: &str| SessionTimer::refusal(&request(headers));
        assert_eq!(refusal("Supported: timer\nSession-Expires: 89\n"), Some(("Min-SE", "90".to_owned())));
        assert_eq!(refusal("Supported: 100rel, timer\nSession-Expires: 90\n"), None);
        assert_eq!(refusal("Session-Expires: 89\n"), None);
        assert_eq!(refusal("Supported: timer\n"), None);
    }

    #[test]
    fn as_uac_the_2xx_decides_who_refreshes() {
        for (answer, refreshes_at, ends_at) in [
            ("Require: timer\nSession-Expires: 300;refresher=uac\n", Some(150), 268),
            ("Require: timer\nSession-Expires: 300;refresher=uas\n", None, 268),
            ("Session-Expires: 300\n", Some(150), 268),
            ("Session-Expires: 1;refresher=uas\n", None, 60),
            ("", Some(900), 1_768),
        ] {
            let mut timer = SessionTimer::new(true);
            assert_eq!(lines(&timer.offer()), "Session-Expires: 1800\n", "the callee may choose the refresher");
            timer.answered(START, &response(answer));
            assert_eq!(timer.deadline(), Some(at(refreshes_at.unwrap_or(ends_at))), "{answer}");
            timer.due(at(refreshes_at.unwrap_or(0)));
            assert_eq!(timer.deadline(), Some(at(ends_at)), "{answer}");
        }
    }

    #[test]
    fn within_a_session_the_roles_stay() {
        let mut timer = SessionTimer::new(true);
        timer.answered(START, &response("Require: timer\nSession-Expires: 300;refresher=uas\n"));
        assert_eq!(lines(&timer.offer()), "Session-Expires: 300;refresher=uas\n");
        timer.accept(START, &request("Supported: timer\nSession-Expires: 300\n"));
        assert_eq!(lines(&timer.offer()), "Session-Expires: 300;refresher=uas\n");
        timer.accept(START, &request("Supported: timer\nSession-Expires: 300;refresher=uas\n"));
        assert_eq!(lines(&timer.offer()), "Session-Expires: 300;refresher=uac\n");
    }

    #[test]
    fn a_422_is_followed_by_one_longer_offer() {
        let too_small = |min: u32| message("SIP/2.0 422 Session Interval Too Small", &format!("Min-SE: {min}\n"));
        let mut timer = SessionTimer::new(true);
        assert!(
            !timer.may_retry(&message("SIP/2.0 422 Session Interval Too Small", "")),
            "it does not say what it wants"
        );
        assert!(!timer.may_retry(&too_small(1_800)), "that was offered");
        assert!(!timer.may_retry(&too_small(86_401)), "over a day");
        assert!(timer.may_retry(&too_small(2_000)));
        assert_eq!(lines(&timer.offer()), "Session-Expires: 2000\nMin-SE: 2000\n");
        assert!(!timer.may_retry(&too_small(3_000)), "once");
        timer.answered(START, &response("Require: timer\nSession-Expires: 2000;refresher=uac\n"));
        assert!(timer.may_retry(&too_small(3_000)), "of the next request");
    }

    #[test]
    fn without_a_wish_of_our_own_only_the_peers_timer_runs() {
        let mut timer = SessionTimer::new(false);
        assert_eq!(timer.offer(), []);
        assert_eq!(timer.accept(START, &request("Supported: timer\n")), []);
        timer.answered(START, &response(""));
        assert_eq!(timer.deadline(), None);
        assert!(!timer.may_retry(&message("SIP/2.0 422 Session Interval Too Small", "Min-SE: 3600\n")));
        assert!(!timer.accept(START, &request("Supported: timer\nSession-Expires: 600\n")).is_empty());
        assert!(timer.deadline().is_some());
    }

    #[test]
    fn a_refusal_is_a_sign_of_life_only_of_a_peer_without_the_extension() {
        let mut timer = SessionTimer::new(true);
        timer.answered(START, &response(""));
        assert_eq!(timer.due(at(900)), Some(Due::Refresh));
        timer.heard(at(901));
        timer.retry_at(at(901), None);
        assert_eq!(timer.deadline(), Some(at(1_801)));

        timer.answered(START, &response("Supported: timer\nSession-Expires: 800;refresher=uac\n"));
        assert_eq!(timer.due(at(400)), Some(Due::Refresh));
        timer.heard(at(401));
        timer.retry_at(at(401), None);
        assert_eq!(timer.deadline(), Some(at(501)), "an eighth of the interval later");
        assert_eq!(timer.due(at(501)), Some(Due::Refresh));
        timer.retry_at(at(501), Some(at(503)));
        assert_eq!(timer.deadline(), Some(at(503)));
        assert_eq!(timer.due(at(768)), Some(Due::Expired));
    }
}
