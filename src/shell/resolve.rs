//! DNS, over the wire or from `/etc/hosts`. For the servers that the core has to find: one record type of one name a question;
//! what is asked, what an answer means and how long it counts is the core's business. For web servers: addresses.

use std::{
    fs::File,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use hickory_resolver::{
    Hosts, TokioResolver,
    config::{ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts},
    net::{NetError, runtime::TokioRuntimeProvider},
    proto::rr::{RData, RecordType as Type},
    system_conf::read_system_conf,
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
    names: Names,
}

impl Resolver {
    pub fn new(to_core: mpsc::Sender<ToCore>, names: Names) -> Self {
        Self { to_core, permits: Arc::new(Semaphore::new(LOOKUPS_MAX)), names }
    }

    /// The answer reaches the core as `Resolved`.
    #[expect(clippy::disallowed_methods, reason = "this module owns the tasks of its lookups")]
    pub fn resolve(&self, query: u64, question: Question) {
        let (to_core, permits, names) = (self.to_core.clone(), Arc::clone(&self.permits), self.names.clone());
        tokio::spawn(async move {
            let reply = match permits.try_acquire() {
                Ok(_permit) => lookup(&names, &question).await,
                Err(_) => Reply::Failed,
            };
            // A core that has ended needs no answer.
            let _ = to_core.send(ToCore::Input(Input::Resolved { query, question, reply })).await;
        });
    }
}

async fn lookup(names: &Names, question: &Question) -> Reply {
    match tokio::time::timeout(TIMEOUT, ask(names, question)).await {
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

async fn ask(names: &Names, question: &Question) -> Result<Reply, NetError> {
    let record_type = match question.record_type {
        RecordType::Naptr => Type::NAPTR,
        RecordType::Srv => Type::SRV,
        RecordType::A => Type::A,
        RecordType::Aaaa => Type::AAAA,
    };
    let found = names.resolver().await?.lookup(question.name.as_str(), record_type).await?;
    let answers = found.answers();
    let records: Vec<_> = answers.iter().filter_map(|answer| record(&answer.data)).collect();
    debug!(name = question.name, ?record_type, count = records.len(), "DNS answered.");
    // An alias on the way counts, too.
    let ttl_s = answers.iter().map(|answer| answer.ttl).min().unwrap_or(0);
    Ok(Reply::Found { records, ttl: Duration::from_secs(ttl_s.into()) })
}

/// Whom to ask: the servers of the configuration, or those of `/etc/resolv.conf`; and what `/etc/hosts` says.
///
/// Both files are read again for each lookup. A confined process cannot read a file that has taken the place of another
/// (`sandbox::files`): then what was read last stays in use.
#[derive(Clone, Debug)]
pub struct Names {
    /// Empty: the system's.
    servers: Arc<[SocketAddr]>,
    system: Arc<Mutex<System>>,
}

/// The system's files, as they could last be read.
#[derive(Debug, Default)]
struct System {
    /// `None`: never.
    config: Option<(ResolverConfig, ResolverOpts)>,
    hosts: Arc<Hosts>,
    has_warned: bool,
}

impl Names {
    /// To be called before anything is looked up, and soon: what can be read later may be less.
    pub fn new(servers: &[SocketAddr]) -> Self {
        let names = Self { servers: servers.into(), system: Arc::default() };
        names.system.lock().unwrap_or_else(PoisonError::into_inner).read();
        names
    }

    /// All addresses of a host, with this port. An address stands for itself.
    pub async fn addresses(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
        let found = async { self.resolver().await?.lookup_ip(host).await };
        let found = tokio::time::timeout(TIMEOUT, found).await.map_err(|_| "DNS does not answer".to_owned())?;
        let found = found.map_err(|error| error.to_string())?;
        Ok(found.iter().map(|ip| SocketAddr::new(ip, port)).collect())
    }

    /// Made for each lookup, so that changed files are noticed; it keeps no records, for the core does.
    async fn resolver(&self) -> Result<TokioResolver, NetError> {
        let system = Arc::clone(&self.system);
        // A disk that hangs must not hold up what else the runtime's threads do.
        let read = tokio::task::spawn_blocking(move || {
            let mut system = system.lock().unwrap_or_else(PoisonError::into_inner);
            system.read();
            (system.config.clone(), Arc::clone(&system.hosts))
        });
        let (system, hosts) = read.await.map_err(|_| "the system's files could not be read")?;
        // Without a server there still are `/etc/hosts` and addresses, which stand for themselves.
        let system = system.filter(|_| self.servers.is_empty());
        let (config, options) = system.unwrap_or_else(|| {
            let servers = self.servers.iter().map(name_server).collect();
            (ResolverConfig::from_parts(None, Vec::new(), servers), ResolverOpts::default())
        });
        resolver_of(config, options, hosts)
    }
}

fn resolver_of(config: ResolverConfig, options: ResolverOpts, hosts: Arc<Hosts>) -> Result<TokioResolver, NetError> {
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    *builder.options_mut() = options;
    builder.options_mut().cache_size = 0;
    builder.options_mut().ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    // It would read them itself, and do without where it cannot.
    builder.options_mut().use_hosts_file = ResolveHosts::Never;
    let mut resolver = builder.build()?;
    resolver.set_hosts(hosts);
    Ok(resolver)
}

impl System {
    fn read(&mut self) {
        let config = read_system_conf().map(|fresh| self.config = Some(fresh));
        let hosts = read_hosts().map(|fresh| self.hosts = Arc::new(fresh));
        let is_denied = |error: &io::Error| error.kind() == io::ErrorKind::PermissionDenied;
        let config_is_denied = matches!(config, Err(NetError::Io(error)) if is_denied(&error));
        if (config_is_denied || hosts.is_err_and(|error| is_denied(&error))) && !self.has_warned {
            self.has_warned = true;
            warn!(
                "/etc/resolv.conf or /etc/hosts was replaced, and a confined process cannot read the new file: names are \
                 looked up as before. A restart takes it into use; [dns] servers needs no file."
            );
        }
    }
}

fn read_hosts() -> io::Result<Hosts> {
    let mut hosts = Hosts::default();
    hosts.read_hosts_conf(File::open("/etc/hosts")?)?;
    Ok(hosts)
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
        Resolver::new(to_core, Names::new(servers)).resolve(7, question.clone());
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

    #[tokio::test]
    async fn a_host_has_all_its_addresses_and_an_address_stands_for_itself() {
        let names = Names::new(&["127.0.0.1:9".parse().unwrap()]);
        assert!(names.addresses("localhost", 443).await.unwrap().contains(&"127.0.0.1:443".parse().unwrap()));
        assert_eq!(names.addresses("::1", 7).await, Ok(vec!["[::1]:7".parse().unwrap()]));
        names.addresses("no host", 7).await.unwrap_err();
    }

    #[tokio::test]
    async fn without_any_server_addresses_and_what_the_hosts_file_names_are_found() {
        let mut hosts = Hosts::default();
        hosts.read_hosts_conf(&b"192.0.2.7 desk.example\n"[..]).unwrap();
        let hosts = Arc::new(hosts);
        let find = async |name: &str| {
            let nobody = ResolverConfig::from_parts(None, Vec::new(), Vec::new());
            let resolver = resolver_of(nobody, ResolverOpts::default(), Arc::clone(&hosts))?;
            Ok::<_, NetError>(resolver.lookup_ip(name).await?.iter().collect::<Vec<_>>())
        };
        assert_eq!(find("192.0.2.9").await.unwrap(), ["192.0.2.9".parse::<std::net::IpAddr>().unwrap()]);
        assert_eq!(find("desk.example").await.unwrap(), ["192.0.2.7".parse::<std::net::IpAddr>().unwrap()]);
        find("other.example").await.unwrap_err();
    }
}
