//! What befalls some random runs besides bad weather: hosts that are cut off for longer than any transaction lives, hosts
//! that hear nothing, devices that lose their power, and a server that dies.

use ringdown::types::{Duration, Instant, Rng};

use super::index;
use crate::{
    phone::{State, VOICE_EVERY},
    world::{SERVER_IP, World},
};

/// Half the interval of a session (RFC 4028), and time for what a refresh finds out.
const REFRESHED: Duration = Duration::from_secs(900 + 100);
/// While nobody listens, voices need not cost anything.
const SLOW_VOICE: Duration = Duration::from_secs(10);

pub(super) struct Disasters {
    /// One deed of so many is followed by one; 0: none at all.
    every: u32,
    /// Before which deed the server dies.
    crash_at: Option<u32>,
    has_struck: bool,
    /// When the last host is heard again.
    over_at: Option<Instant>,
}

impl Disasters {
    /// Every seventh run has a crash of the server, every third some of the others.
    pub(super) fn draw(seed: u64, deeds: u32, rng: &mut Rng) -> Self {
        let crash_at = (seed % 7 == 6).then(|| rng.below(deeds));
        let every = if seed % 3 == 1 { 4 + rng.below(20) } else { 0 };
        Self { every, crash_at, has_struck: false, over_at: None }
    }

    /// No record is written of calls that a crash ends.
    pub(super) const fn keeps_records(&self) -> bool {
        self.crash_at.is_none()
    }

    pub(super) fn strike(&mut self, w: &mut World, rng: &mut Rng, deed: u32) {
        if self.crash_at == Some(deed) {
            w.crash();
            self.has_struck = true;
        }
        if self.every == 0 || rng.below(self.every) > 0 {
            return;
        }
        self.has_struck = true;
        let phone = index(rng, u32::try_from(w.phones.len()).expect("few phones"));
        let host = if rng.below(5) == 0 { SERVER_IP } else { w.phones[phone].profile.ip };
        let until = w.now + Duration::from_secs(u64::from(5 + rng.below(90)));
        match rng.below(3) {
            0 => {
                w.note(&format!("{host} is cut off for long"));
                w.net.cut_off(host, until);
                self.over_at = self.over_at.max(Some(until));
            }
            1 => {
                w.note(&format!("{host} hears nothing"));
                w.net.deafen(host, until);
                self.over_at = self.over_at.max(Some(until));
            }
            _ => w.restart(phone),
        }
    }

    /// Who has lost sight of the other side finds out when the session is refreshed: phones do that once, the server by
    /// itself.
    pub(super) fn settle(&self, w: &mut World) {
        if !self.has_struck {
            return;
        }
        for phone in &mut w.phones {
            phone.voice_every = SLOW_VOICE;
        }
        // Streams deliver what was held back when their host can be reached again.
        if let Some(over_at) = self.over_at.filter(|at| *at > w.now) {
            w.run(over_at.since(w.now));
        }
        for phone in 0..w.phones.len() {
            let up = w.phones[phone].live_calls().filter(|(_, c)| c.state == State::Up);
            for call in up.map(|(i, _)| i).collect::<Vec<_>>() {
                w.act(phone, |p, now| p.refresh(now, call));
            }
        }
        w.run(REFRESHED);
        for phone in &mut w.phones {
            phone.voice_every = VOICE_EVERY;
        }
        w.run(SLOW_VOICE);
    }
}
