//! Host names of trunks to addresses, by the system's resolver.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::sync::{Semaphore, mpsc};

use crate::call::Input;

use super::core_task::ToCore;

/// A resolver that does not answer in this time has no answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Lookups at once; further ones are answered empty, as if the host did not exist.
const LOOKUPS_MAX: usize = 64;
/// Addresses of one host that are handed on.
const ADDRESSES_MAX: usize = 16;

/// Answers the core's queries, each in a task of its own.
#[derive(Debug)]
pub struct Resolver {
    to_core: mpsc::Sender<ToCore>,
    permits: Arc<Semaphore>,
}

impl Resolver {
    pub fn new(to_core: mpsc::Sender<ToCore>) -> Self {
        Self { to_core, permits: Arc::new(Semaphore::new(LOOKUPS_MAX)) }
    }

    /// The answer reaches the core as `Resolved`, empty if there is none.
    #[expect(clippy::disallowed_methods, reason = "this module owns the tasks of its lookups")]
    pub fn resolve(&self, query: u64, host: String, port: u16) {
        let (to_core, permits) = (self.to_core.clone(), Arc::clone(&self.permits));
        tokio::spawn(async move {
            let addresses = match permits.try_acquire() {
                Ok(_permit) => lookup(&host, port).await,
                Err(_) => Vec::new(),
            };
            // A core that has ended needs no answer.
            let _ = to_core.send(ToCore::Input(Input::Resolved { query, addresses })).await;
        });
    }
}

async fn lookup(host: &str, port: u16) -> Vec<SocketAddr> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    match tokio::time::timeout(TIMEOUT, tokio::net::lookup_host((bare, port))).await {
        Ok(Ok(addresses)) => addresses.take(ADDRESSES_MAX).collect(),
        Ok(Err(_)) | Err(_) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn addresses_come_back_with_their_port_and_nonsense_comes_back_empty() {
        let (to_core, mut mail) = mpsc::channel(4);
        let resolver = Resolver::new(to_core);
        for (query, host, expected) in [
            (1, "127.0.0.1", vec!["127.0.0.1:5060".parse().unwrap()]),
            (2, "[::1]", vec!["[::1]:5060".parse().unwrap()]),
            (3, "no host", vec![]),
        ] {
            resolver.resolve(query, host.to_owned(), 5060);
            let Some(ToCore::Input(Input::Resolved { query: answered, addresses })) = mail.recv().await else {
                panic!("no answer for {host}");
            };
            assert_eq!((answered, addresses), (query, expected));
        }
    }
}
