//! DNS, for the servers that the core has to find: one record type of one name a question, over the wire or from
//! `/etc/hosts`. What is asked, what an answer means and how long it counts is the core's business.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use hickory_resolver::{
    TokioResolver,
    config::{ConnectionConfig, NameServerConfig, ResolverConfig},
    net::{NetError, runtime::TokioRuntimeProvider},
    proto::rr::{RData, RecordType as Type},
};
use tokio::sync::{Semaphore, mpsc};
use tracing::{debug, warn};

use crate::{
    call::Input,
    sip::locate::{Question, Record, RecordType, Reply},
};

use super::core_task::ToCore;

/// A resolver that does not answer in this time has no answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Lookups at once; further ones have no answer.
const LOOKUPS_MAX: usize = 64;

/// Answers the core's questions, each in a task of its own.
#[derive(Debug)]
pub struct Resolver {
    to_core: mpsc::Sender<ToCore>,
    permits: Arc<Semaphore>,
    /// Empty: the system's.
    servers: Arc<[SocketAddr]>,
}

impl Resolver {
    pub fn new(to_core: mpsc::Sender<ToCore>, servers: &[SocketAddr]) -> Self {
        Self { to_core, permits: Arc::new(Semaphore::new(LOOKUPS_MAX)), servers: servers.into() }
    }

    /// The answer reaches the core as `Resolved`.
    #[expect(clippy::disallowed_methods, reason = "this module owns the tasks of its lookups")]
    pub fn resolve(&self, query: u64, question: Question) {
        let (to_core, permits, servers) = (self.to_core.clone(), Arc::clone(&self.permits), Arc::clone(&self.servers));
        tokio::spawn(async move {
            let reply = match permits.try_acquire() {
                Ok(_permit) => lookup(&servers, &question).await,
                Err(_) => Reply::Failed,
            };
            // A core that has ended needs no answer.
            let _ = to_core.send(ToCore::Input(Input::Resolved { query, question, reply })).await;
        });
    }
}

async fn lookup(servers: &[SocketAddr], question: &Question) -> Reply {
    match tokio::time::timeout(TIMEOUT, ask(servers, question)).await {
        Ok(Ok(reply)) => reply,
        Ok(Err(error)) if error.is_no_records_found() => Reply::Absent,
        Ok(Err(error)) => {
            warn!(name = question.name, record_type = ?question.record_type, %error, "A DNS lookup failed.");
            Reply::Failed
        }
        Err(_) => {
            warn!(name = question.name, record_type = ?question.record_type, "A DNS lookup was not answered.");
            Reply::Failed
        }
    }
}

async fn ask(servers: &[SocketAddr], question: &Question) -> Result<Reply, NetError> {
    let record_type = match question.record_type {
        RecordType::Naptr => Type::NAPTR,
        RecordType::Srv => Type::SRV,
        RecordType::A => Type::A,
        RecordType::Aaaa => Type::AAAA,
    };
    let found = resolver(servers)?.lookup(question.name.as_str(), record_type).await?;
    let answers = found.answers();
    let records: Vec<_> = answers.iter().filter_map(|answer| record(&answer.data)).collect();
    debug!(name = question.name, ?record_type, count = records.len(), "DNS answered.");
    // An alias on the way counts, too.
    let ttl_s = answers.iter().map(|answer| answer.ttl).min().unwrap_or(0);
    Ok(Reply::Found { records, ttl: Duration::from_secs(ttl_s.into()) })
}

/// Made for each lookup, so that a changed `/etc/resolv.conf` or `/etc/hosts` is noticed; it keeps no records, for the core
/// does.
fn resolver(servers: &[SocketAddr]) -> Result<TokioResolver, NetError> {
    let mut builder = if servers.is_empty() {
        TokioResolver::builder_tokio()?
    } else {
        let servers = servers.iter().map(name_server).collect();
        let config = ResolverConfig::from_parts(None, Vec::new(), servers);
        TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
    };
    builder.options_mut().cache_size = 0;
    builder.build()
}

fn name_server(address: &SocketAddr) -> NameServerConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = address.port();
        connection
    });
    NameServerConfig::new(address.ip(), true, connections.into())
}

fn record(data: &RData) -> Option<Record> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match data {
        RData::A(ip) => Some(Record::Address(ip.0.into())),
        RData::AAAA(ip) => Some(Record::Address(ip.0.into())),
        RData::SRV(srv) => Some(Record::Srv {
            priority: srv.priority,
            weight: srv.weight,
            port: srv.port,
            target: srv.target.to_ascii(),
        }),
        RData::NAPTR(naptr) => Some(Record::Naptr {
            order: naptr.order,
            preference: naptr.preference,
            flags: text(&naptr.flags),
            service: text(&naptr.services),
            replacement: naptr.replacement.to_ascii(),
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn reply(servers: &[SocketAddr], name: &str) -> Reply {
        let (to_core, mut mail) = mpsc::channel(4);
        let question = Question { name: name.to_owned(), record_type: RecordType::A };
        Resolver::new(to_core, servers).resolve(7, question.clone());
        match mail.recv().await {
            Some(ToCore::Input(Input::Resolved { query: 7, question: answered, reply })) if answered == question => {
                reply
            }
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn every_question_is_answered_and_nonsense_has_no_address() {
        let Reply::Found { records, .. } = reply(&[], "localhost").await else { panic!("localhost is unknown") };
        assert_eq!(records, [Record::Address("127.0.0.1".parse().unwrap())]);
        // Nobody listens there.
        assert_eq!(reply(&["127.0.0.1:9".parse().unwrap()], "carrier.example.").await, Reply::Failed);
        assert_eq!(reply(&[], "no host").await, Reply::Failed);
    }
}
