//! The registrar beside a store that keeps what it is told to.

use std::{collections::BTreeMap, sync::Arc};

use ringdown::{
    sip::registrar::{Binding, Change, Input, Output, Registrar},
    types::{
        ConnectionId, Duration, Flow, Instant, Rng, Secret, Transport, TxnId,
        limits::{CONTACTS_PER_AOR_MAX, PATH_MAX, REGISTRATION_EXPIRES_S_MAX},
    },
    wire::sip::{Message, NameAddr, RequestBuilder, Uri, validate},
};

use super::choices::Choices;

const USERS: [&str; 3] = ["alice", "bob", "carol"];
const STEPS_MAX: usize = 64;

/// What tells the bindings of a store apart.
type Key = (String, String, Option<String>, Option<u32>);

struct World {
    registrar: Registrar,
    store: BTreeMap<Key, Binding>,
    now: Instant,
    replies: usize,
}

/// Each step is a choice of what happens. After each, the store holds exactly the live bindings, so that a restart at any
/// time loses none and brings none back.
pub fn registrar(data: &[u8]) {
    let mut choices = Choices::new(data);
    let now = Instant::from_unix_ms(1_700_000_000_000);
    let mut world = World { registrar: new(), store: BTreeMap::new(), now, replies: 0 };
    for _ in 0..STEPS_MAX {
        if choices.is_over() {
            break;
        }
        world.step(&mut choices);
        world.check();
    }
    world.now = world.now + Duration::from_secs(u64::from(REGISTRATION_EXPIRES_S_MAX));
    world.input(Input::Timeout);
    assert!(world.registrar.is_empty() && world.store.is_empty(), "a binding outlives its time");
    assert!(matches!(world.registrar.poll_output(), Output::Timeout(None)));
}

fn new() -> Registrar {
    Registrar::new("example.com", Secret::new([7; 32]), Rng::from_small_seed(7))
}

impl World {
    fn step(&mut self, choices: &mut Choices<'_>) {
        match choices.below(8) {
            0..4 => self.register(choices),
            4 => {
                self.now = self.now + Duration::from_millis(choices.time_ms() * 16);
                self.input(Input::Timeout);
            }
            5 => self.input(Input::ConnectionClosed(ConnectionId(1))),
            6 => match choices.one_of(self.store.values().cloned()) {
                Some(binding) if choices.flag() => self.input(Input::FlowFailed(binding.into())),
                Some(Binding { aor, .. }) => self.input(Input::Forget { aor }),
                None => {}
            },
            _ => self.restart(),
        }
    }

    fn register(&mut self, choices: &mut Choices<'_>) {
        let aor = (*choices.of(&USERS)).to_owned();
        let mut request = RequestBuilder::new("REGISTER", "sip:example.com")
            .header("Via", "SIP/2.0/UDP 198.51.100.1;branch=z9hG4bK1")
            .header("Max-Forwards", 70)
            .header("From", format_args!("<sip:{aor}@example.com>;tag=f"))
            .header("To", format_args!("<sip:{aor}@example.com>"))
            .header("Call-ID", choices.of(&["one", "two"]))
            .header("CSeq", format_args!("{} REGISTER", choices.byte()));
        for _ in 0..choices.below(4) {
            request = request.header("Contact", contact(choices));
        }
        for _ in 0..choices.below(4) {
            let (name, value) = *choices.of(&[
                ("Expires", "0"),
                ("Expires", "60"),
                ("Expires", "99999999999"),
                ("Supported", "path, outbound, gruu"),
                ("Supported", "gruu"),
                ("Require", "gin"),
                ("Path", "<sip:proxy.example.com;lr>"),
                ("Path", "<sip:edge.example.com;lr;ob>, <sip:two@[2001:db8::1];lr>"),
                ("User-Agent", "phone"),
            ]);
            request = request.header(name, value);
        }
        let request = Message::parse(request.finish()).expect("a request of the target");
        if validate(&request).is_err() {
            return;
        }
        let flow = flow(choices);
        let before = self.replies;
        self.input(Input::Register { txn: TxnId(1), aor, flow, request });
        assert_eq!(self.replies, before + 1, "a REGISTER is answered once");
    }

    fn input(&mut self, input: Input) {
        self.registrar.handle_input(self.now, input);
        loop {
            match self.registrar.poll_output() {
                Output::Store(Change::Set(binding)) => {
                    drop(self.store.insert(key(&binding), Arc::unwrap_or_clone(binding)))
                }
                Output::Store(Change::Remove(binding)) => {
                    self.store.remove(&key(&binding)).expect("only what was stored is removed");
                }
                Output::Reply { contacts, headers, status, .. } => {
                    self.replies += 1;
                    assert!(status >= 200 && contacts.len() <= CONTACTS_PER_AOR_MAX);
                    for contact in &contacts {
                        let contact = NameAddr::parse(contact).expect("a Contact of ours can be read");
                        assert!(contact.params.get("expires").is_some_and(|left| left != "0"));
                    }
                    for (_, value) in &headers {
                        assert!(!value.contains(['\r', '\n']), "a header of ours is one line");
                    }
                }
                Output::Displaced(binding) => assert!(!self.store.contains_key(&key(&binding))),
                Output::Timeout(at) => {
                    assert!(at.is_none_or(|at| at > self.now), "what is due is done");
                    return;
                }
            }
        }
    }

    /// A crash: connections are gone, and what is left is what was stored.
    fn restart(&mut self) {
        self.registrar = new();
        let stored: Vec<_> = self.store.values().cloned().collect();
        self.input(Input::Restore(stored));
        for binding in self.store.values_mut() {
            binding.flow.connection = ConnectionId::NONE;
        }
    }

    fn check(&self) {
        let live: BTreeMap<Key, Binding> = self.registrar.iter().map(|b| (key(b), Binding::clone(b))).collect();
        assert_eq!(live, self.store, "live bindings and stored ones differ");
        assert_eq!(live.len(), self.registrar.len(), "two bindings are the same");
        for aor in USERS {
            assert!(live.keys().filter(|(of, ..)| of == aor).count() <= CONTACTS_PER_AOR_MAX);
            for binding in self.registrar.contacts(aor) {
                assert!(binding.path.len() <= PATH_MAX);
                assert!(Uri::parse(&binding.contact).is_some() && Uri::parse(&binding.uri_for("+1202")).is_some());
                assert_eq!(self.registrar.is_bound(&binding.flow), binding.flow.key().is_some());
                assert!(self.registrar.is_source(binding.flow.source()));
            }
        }
    }
}

fn key(binding: &Binding) -> Key {
    (binding.aor.clone(), binding.contact.clone(), binding.instance.clone(), binding.reg_id)
}

fn contact(choices: &mut Choices<'_>) -> String {
    let uri = match choices.below(8) {
        0 => "*".to_owned(),
        1 => return choices.text(),
        2 => format!("<sip:{}>", choices.text()),
        3 => "<sip:198.51.100.1;bnc>".to_owned(),
        n => format!("<sip:dev{n}@198.51.100.1:5060;transport=tcp>"),
    };
    let mut value = uri;
    for _ in 0..choices.below(4) {
        value += *choices.of(&[
            ";expires=0",
            ";expires=59",
            ";expires=3600",
            ";+sip.instance=\"<urn:uuid:1>\"",
            ";+sip.instance=\"<urn:uuid:2>\"",
            ";reg-id=1",
            ";reg-id=2",
            ";reg-id=0",
            ";ob",
        ]);
    }
    value
}

fn flow(choices: &mut Choices<'_>) -> Flow {
    let (transport, remote, connection) = *choices.of(&[
        (Transport::Udp, "198.51.100.1:5060", ConnectionId::NONE),
        (Transport::Udp, "198.51.100.2:5060", ConnectionId::NONE),
        (Transport::Tcp, "198.51.100.1:40000", ConnectionId(1)),
        (Transport::Tls, "[2001:db8::1]:40000", ConnectionId(2)),
    ]);
    let local = "192.0.2.1:5060".parse().expect("an address");
    Flow { transport, local, remote: remote.parse().expect("an address"), connection }
}
