//! Which targets are in trouble (RFC 3263 section 4.3).

use std::collections::HashMap;

use super::Target;
use crate::types::{Duration, Instant};

/// After its first failure a target is skipped this long; twice as long after each further one in a row, up to the most.
const SKIP_MIN: Duration = Duration::from_secs(30);
const SKIP_MAX: Duration = Duration::from_secs(300);

/// What is known of the targets of one server. Holds at most the targets it is told to [`retain`](Health::retain).
#[derive(Debug, Default)]
pub struct Health(HashMap<Target, Trouble>);

#[derive(Clone, Copy, Debug)]
struct Trouble {
    skip_for: Duration,
    until: Instant,
}

impl Health {
    /// The target did not answer, could not be reached, or has asked to be left alone (503).
    pub fn failed(&mut self, now: Instant, target: Target) {
        let skip_for = match self.0.get(&target) {
            // Calls that were on their way together fail together: that is one failure.
            Some(trouble) if now < trouble.until => return,
            Some(trouble) => (trouble.skip_for * 2).min(SKIP_MAX),
            None => SKIP_MIN,
        };
        self.0.insert(target, Trouble { skip_for, until: now + skip_for });
    }

    pub fn answered(&mut self, target: Target) {
        self.0.remove(&target);
    }

    pub fn is_skipped(&self, now: Instant, target: &Target) -> bool {
        self.0.get(target).is_some_and(|trouble| now < trouble.until)
    }

    /// Whether it has failed and not answered since, although it may have another chance by now.
    pub fn is_in_trouble(&self, target: &Target) -> bool {
        self.0.contains_key(target)
    }

    /// Forgets every other target.
    pub fn retain(&mut self, is_wanted: impl Fn(&Target) -> bool) {
        self.0.retain(|target, _| is_wanted(target));
    }
}
