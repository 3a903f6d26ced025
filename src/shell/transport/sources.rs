//! How many connections, or unfinished handshakes, each source has, so that one cannot take them all.

use std::{net::IpAddr, sync::Arc};

use dashmap::{DashMap, Entry};

/// Their number by source (`Flow::source`); a source without one has no entry.
#[derive(Debug)]
pub(in crate::shell) struct Sources {
    counts: DashMap<IpAddr, usize>,
    max: usize,
}

/// One connection of a source, until it is dropped.
#[derive(Debug)]
pub(in crate::shell) struct Share {
    sources: Arc<Sources>,
    source: IpAddr,
}

impl Sources {
    pub(in crate::shell) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { counts: DashMap::new(), max })
    }

    /// `None`: the source has all that it may have.
    pub(in crate::shell) fn take(self: &Arc<Self>, source: IpAddr) -> Option<Share> {
        let mut count = self.counts.entry(source).or_default();
        if *count >= self.max {
            return None;
        }
        *count += 1;
        Some(Share { sources: Arc::clone(self), source })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        if let Entry::Occupied(mut entry) = self.sources.counts.entry(self.source) {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_has_its_connections_up_to_the_maximum_and_leaves_nothing_behind() {
        let sources = Sources::new(20);
        let (one, other) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let mut shares: Vec<Share> = (0..20).map(|_| sources.take(one).unwrap()).collect();
        assert!(sources.take(one).is_none());
        let of_other = sources.take(other).unwrap();
        shares.pop();
        assert!(sources.take(one).is_some());
        drop((shares, of_other));
        assert!(sources.counts.is_empty());
    }
}
