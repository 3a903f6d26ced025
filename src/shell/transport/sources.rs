//! How many connections each source has, so that one cannot take them all.

use std::{net::IpAddr, sync::Arc};

use dashmap::{DashMap, Entry};

use crate::types::limits::CONNECTIONS_PER_SOURCE_MAX;

/// Accepted connections by source (`Flow::source`); a source without one has no entry.
#[derive(Debug, Default)]
pub(super) struct Sources(DashMap<IpAddr, usize>);

/// One connection of a source, until it is dropped.
#[derive(Debug)]
pub(super) struct Share {
    sources: Arc<Sources>,
    source: IpAddr,
}

impl Sources {
    /// `None`: the source has `CONNECTIONS_PER_SOURCE_MAX`.
    pub(super) fn take(self: &Arc<Self>, source: IpAddr) -> Option<Share> {
        let mut count = self.0.entry(source).or_default();
        if *count >= CONNECTIONS_PER_SOURCE_MAX {
            return None;
        }
        *count += 1;
        Some(Share { sources: Arc::clone(self), source })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        if let Entry::Occupied(mut entry) = self.sources.0.entry(self.source) {
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
        let sources = Arc::new(Sources::default());
        let (one, other) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let mut shares: Vec<Share> = (0..CONNECTIONS_PER_SOURCE_MAX).map(|_| sources.take(one).unwrap()).collect();
        assert!(sources.take(one).is_none());
        let of_other = sources.take(other).unwrap();
        shares.pop();
        assert!(sources.take(one).is_some());
        drop((shares, of_other));
        assert!(sources.0.is_empty());
    }
}
