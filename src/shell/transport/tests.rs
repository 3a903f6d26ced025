//! Real sockets on loopback against the transports, with the test in the core's place.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};

use super::*;
use crate::{
    call::Input,
    shell::settings::Settings,
    types::limits::{
        CONNECTIONS_ENDING_MAX, CONNECTIONS_MAX, CONNECTIONS_PER_SOURCE_MAX, TLS_HANDSHAKES_PER_SOURCE_MAX,
    },
    wire::sip::frame::FrameError,
};

const OPTIONS: &str = "OPTIONS sip:a@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/TCP 127.0.0.1;branch=z9hG4bK1\r\n\
    From: <sip:b@127.0.0.1>;tag=1\r\nTo: <sip:a@127.0.0.1>\r\nCall-ID: 1\r\nCSeq: 1 OPTIONS\r\nMax-Forwards: 70\r\n\
    Content-Length: 4\r\n\r\nbody";

/// Messages that wait for the test.
const MAILBOX: usize = 64;

struct Fixture {
    transports: Transports,
    mail: mpsc::Receiver<ToCore>,
    tls: Arc<Tls>,
    addresses: Vec<(Transport, SocketAddr)>,
    folder: tempfile::TempDir,
}

impl Fixture {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let text = format!(
            "[server]\ndomain = \"localhost\"\nstate_dir = \"{}\"\n[sip]\nudp = [\"127.0.0.1:0\"]\n\
             tcp = [\"127.0.0.1:0\"]\ntls = [\"127.0.0.1:0\"]\n[company]\nname = \"x\"\nregion = \"US\"\n",
            folder.path().display()
        );
        let settings = Settings::from_text(&text).unwrap();
        let clock = Clock::start();
        let tls = Arc::new(Tls::load(clock.now(), &settings.config).unwrap());
        let (to_core, mail) = mpsc::channel(MAILBOX);
        let listeners = Listeners::bind(&settings.config.sip, Arc::clone(&tls), clock, to_core).unwrap();
        let (transports, addresses) = (listeners.transports(), listeners.addresses());
        listeners.serve().detach_all();
        Self { transports, mail, tls, addresses, folder }
    }

    fn address(&self, transport: Transport) -> SocketAddr {
        self.addresses.iter().find(|(t, _)| *t == transport).unwrap().1
    }

    async fn mail(&mut self) -> ToCore {
        tokio::time::timeout(Duration::from_secs(5), self.mail.recv()).await.expect("mail in time").unwrap()
    }

    async fn received(&mut self) -> (Flow, Bytes) {
        match self.mail().await {
            ToCore::Input(Input::Received { flow, bytes }) => (flow, bytes),
            other => panic!("{other:?}"),
        }
    }

    async fn unframeable(&mut self) -> (Flow, FrameError) {
        match self.mail().await {
            ToCore::Input(Input::Unframeable { flow, error }) => (flow, error),
            other => panic!("{other:?}"),
        }
    }

    async fn failed(&mut self) -> Flow {
        match self.mail().await {
            ToCore::Input(Input::FlowFailed { flow }) => flow,
            other => panic!("{other:?}"),
        }
    }

    fn no_mail(&mut self) {
        assert!(self.mail.try_recv().is_err());
    }
}

async fn read_some(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> Vec<u8> {
    let mut buffer = vec![0; 4096];
    let len = tokio::time::timeout(Duration::from_secs(5), stream.read(&mut buffer)).await.unwrap().unwrap();
    buffer.truncate(len);
    buffer
}

#[tokio::test]
async fn a_datagram_arrives_and_is_answered_on_its_flow_and_a_keep_alive_is_not_a_message() {
    let mut fixture = Fixture::start();
    let phone = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let server = fixture.address(Transport::Udp);
    for datagram in ["\r\n\r\n", "", OPTIONS] {
        phone.send_to(datagram.as_bytes(), server).await.unwrap();
    }
    let (flow, bytes) = fixture.received().await;
    assert_eq!(bytes, OPTIONS);
    let expected = Flow {
        transport: Transport::Udp,
        local: server,
        remote: phone.local_addr().unwrap(),
        connection: ConnectionId::NONE,
    };
    assert_eq!(flow, expected);
    fixture.no_mail();
    fixture.transports.transmit(&flow, Bytes::from_static(b"answer")).unwrap();
    let mut buffer = [0; 64];
    let (len, from) = phone.recv_from(&mut buffer).await.unwrap();
    assert_eq!((&buffer[..len], from), (b"answer".as_slice(), server));
}

#[tokio::test]
async fn a_datagram_for_another_family_fails_its_flow() {
    let fixture = Fixture::start();
    let local = fixture.address(Transport::Udp);
    let flow =
        Flow { transport: Transport::Udp, local, remote: "[::1]:9".parse().unwrap(), connection: ConnectionId::NONE };
    // The only socket is IPv4: the kernel refuses, or none of the family is found.
    assert_eq!(fixture.transports.transmit(&Flow { local: flow.remote, ..flow }, Bytes::new()), Err(FlowGone));
    assert_eq!(fixture.transports.transmit(&flow, Bytes::from_static(b"x")), Err(FlowGone));
}

#[tokio::test]
async fn messages_are_cut_out_of_a_stream_however_it_is_segmented() {
    let mut fixture = Fixture::start();
    let mut phone = TcpStream::connect(fixture.address(Transport::Tcp)).await.unwrap();
    phone.set_nodelay(true).unwrap();
    let stream = [OPTIONS, "\r\n", OPTIONS].concat();
    for chunk in stream.as_bytes().chunks(37) {
        phone.write_all(chunk).await.unwrap();
        tokio::task::yield_now().await;
    }
    let (first, bytes) = fixture.received().await;
    assert_eq!(bytes, OPTIONS);
    assert!(matches!(fixture.mail().await, ToCore::Input(Input::Alive { flow }) if flow == first));
    let (second, bytes) = fixture.received().await;
    assert_eq!(bytes, OPTIONS);
    assert_eq!(first, second);
    assert_ne!(first.connection, ConnectionId::NONE);
    fixture.transports.transmit(&first, Bytes::from_static(b"one")).unwrap();
    assert_eq!(read_some(&mut phone).await, b"one");
    drop(phone);
    assert_eq!(fixture.failed().await, first);
    assert_eq!(fixture.transports.connections(), 0);
    assert_eq!(fixture.transports.transmit(&first, Bytes::new()), Err(FlowGone));
}

#[tokio::test]
async fn a_ping_is_answered_by_a_pong_and_is_not_a_message() {
    let mut fixture = Fixture::start();
    let mut phone = TcpStream::connect(fixture.address(Transport::Tcp)).await.unwrap();
    phone.write_all(b"\r\n\r\n").await.unwrap();
    assert!(matches!(fixture.mail().await, ToCore::Input(Input::Alive { .. })), "the core hears of it");
    assert_eq!(read_some(&mut phone).await, b"\r\n");
    // However often the peer pings, the core is not told at once again.
    phone.write_all("\r\n\r\n".repeat(1_000).as_bytes()).await.unwrap();
    phone.write_all(OPTIONS.as_bytes()).await.unwrap();
    assert!(matches!(fixture.mail().await, ToCore::Input(Input::Received { .. })));
    fixture.no_mail();
}

#[tokio::test]
async fn a_stream_that_cannot_be_cut_is_answered_and_then_closed() {
    let mut fixture = Fixture::start();
    let mut phone = TcpStream::connect(fixture.address(Transport::Tcp)).await.unwrap();
    let broken = OPTIONS.replace("Content-Length: 4", "Content-Length: x");
    phone.write_all(broken.as_bytes()).await.unwrap();
    let (flow, error) = fixture.unframeable().await;
    assert_eq!(error.fault.reason, "Content-Length is not a valid number");
    assert!(error.head.unwrap().starts_with(b"OPTIONS "));
    let ToCore::CloseFlow(closing) = fixture.mail().await else { panic!("the flow is to be closed") };
    assert_eq!(closing, flow);
    // What the peer goes on sending is not read as a message.
    phone.write_all(OPTIONS.as_bytes()).await.unwrap();
    fixture.transports.transmit(&flow, Bytes::from_static(b"400")).unwrap();
    fixture.transports.close(flow.connection);
    let mut answer = Vec::new();
    phone.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer, b"400");
    fixture.no_mail();
}

#[tokio::test]
async fn a_stream_of_noise_is_dropped_under_a_name() {
    let mut fixture = Fixture::start();
    let mut phone = TcpStream::connect(fixture.address(Transport::Tcp)).await.unwrap();
    let noise = vec![b'x'; crate::types::limits::SIP_MESSAGE_BYTES_MAX + 1];
    // The server may close before it has taken everything.
    let _ = phone.write_all(&noise).await;
    let (_, error) = fixture.unframeable().await;
    assert_eq!((error.fault.status, error.head), (513, None));
    assert!(matches!(fixture.mail().await, ToCore::CloseFlow(_)));
}

/// Goal: neither silence nor slow sending holds a connection. Method: the clock of the timers is moved past the limit.
#[tokio::test]
async fn a_peer_that_only_pings_is_cut_off_as_a_silent_one_is() {
    let mut fixture = Fixture::start();
    let mut pinging = TcpStream::connect(fixture.address(Transport::Tcp)).await.unwrap();
    pinging.write_all(b"\r\n\r\n").await.unwrap();
    let ToCore::Input(Input::Alive { flow }) = fixture.mail().await else { panic!("a ping") };
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(31)).await;
    tokio::time::resume();
    assert_eq!(fixture.failed().await, flow);
}

#[tokio::test]
async fn a_silent_or_slow_sender_is_cut_off_and_a_finished_one_is_not() {
    let mut fixture = Fixture::start();
    let server = fixture.address(Transport::Tcp);
    let mut idle = TcpStream::connect(server).await.unwrap();
    idle.write_all(OPTIONS.as_bytes()).await.unwrap();
    let (idle_flow, _) = fixture.received().await;
    let mut slow = TcpStream::connect(server).await.unwrap();
    slow.write_all(OPTIONS.as_bytes()).await.unwrap();
    let (slow_flow, _) = fixture.received().await;
    slow.write_all(&OPTIONS.as_bytes()[..40]).await.unwrap();
    let mut silent = TcpStream::connect(server).await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;

    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(31)).await;
    tokio::time::resume();
    assert_eq!(fixture.failed().await, slow_flow);
    assert_eq!(silent.read(&mut [0; 8]).await.unwrap_or(0), 0);
    fixture.no_mail();
    assert_eq!(fixture.transports.connections(), 1, "the core has never heard of the silent one");
    fixture.transports.transmit(&idle_flow, Bytes::from_static(b"still here")).unwrap();
    assert_eq!(read_some(&mut idle).await, b"still here");
}

#[tokio::test]
async fn a_peer_that_does_not_read_loses_its_connection_at_the_limit() {
    let mut fixture = Fixture::start();
    let mut phone = TcpStream::connect(fixture.address(Transport::Tcp)).await.unwrap();
    phone.write_all(OPTIONS.as_bytes()).await.unwrap();
    let (flow, _) = fixture.received().await;
    let large = Bytes::from(vec![b'x'; 60_000]);
    let mut sent = 0;
    while fixture.transports.transmit(&flow, large.clone()).is_ok() {
        sent += 1;
        assert!(sent < 10_000, "the queue has no limit");
        tokio::task::yield_now().await;
    }
    assert!(sent >= SEND_QUEUE_MAX);
    assert_eq!(fixture.transports.connections(), 0);
}

#[tokio::test]
async fn tls_carries_messages_and_the_certificate_is_good_for_the_address() {
    let mut fixture = Fixture::start();
    let stream = TcpStream::connect(fixture.address(Transport::Tls)).await.unwrap();
    let mut phone = tls::connect(fixture.tls.client_config(0), stream, "127.0.0.1").await.unwrap();
    phone.write_all(OPTIONS.as_bytes()).await.unwrap();
    let (flow, bytes) = fixture.received().await;
    assert_eq!((flow.transport, bytes), (Transport::Tls, Bytes::from(OPTIONS)));
    fixture.transports.transmit(&flow, Bytes::from_static(b"answer")).unwrap();
    assert_eq!(read_some(&mut phone).await, b"answer");

    let stream = TcpStream::connect(fixture.address(Transport::Tls)).await.unwrap();
    tls::connect(fixture.tls.client_config(0), stream, "other.test").await.unwrap_err();
}

#[tokio::test]
async fn a_reloaded_certificate_serves_new_connections_and_open_ones_go_on() {
    let mut fixture = Fixture::start();
    let stream = TcpStream::connect(fixture.address(Transport::Tls)).await.unwrap();
    let mut old = tls::connect(fixture.tls.client_config(0), stream, "localhost").await.unwrap();
    let certificate =
        |s: &tokio_rustls::client::TlsStream<TcpStream>| s.get_ref().1.peer_certificates().unwrap()[0].clone();
    // A missing certificate is made again.
    std::fs::remove_file(fixture.folder.path().join("tls/server.pem")).unwrap();
    fixture.tls.reload(Clock::start().now()).unwrap();
    old.write_all(OPTIONS.as_bytes()).await.unwrap();
    assert_eq!(fixture.received().await.1, OPTIONS);
    let stream = TcpStream::connect(fixture.address(Transport::Tls)).await.unwrap();
    let new = tls::connect(fixture.tls.client_config(0), stream, "localhost").await.unwrap();
    assert_ne!(certificate(&new), certificate(&old));
}

#[tokio::test]
async fn an_asked_for_connection_carries_what_was_queued_before_it_was_open() {
    let mut fixture = Fixture::start();
    for (n, transport) in [(1, Transport::Tcp), (2, Transport::Tls)] {
        let remote = fixture.address(transport);
        let local = "127.0.0.1:0".parse().unwrap();
        let flow = Flow { transport, local, remote, connection: ConnectionId::outbound(n) };
        fixture.transports.connect(flow, "localhost".to_owned(), 0);
        fixture.transports.transmit(&flow, Bytes::from(OPTIONS)).unwrap();
        let (accepted, bytes) = fixture.received().await;
        assert_eq!(bytes, OPTIONS);
        fixture.transports.transmit(&accepted, Bytes::from(OPTIONS)).unwrap();
        assert_eq!(fixture.received().await.0, flow);
        fixture.transports.close(flow.connection);
        // The core asked for the end of one side, so it hears of the other only.
        assert_eq!(fixture.failed().await, accepted);
        fixture.no_mail();
    }
}

#[tokio::test]
async fn a_connection_that_cannot_be_opened_or_proven_fails_its_flow() {
    let mut fixture = Fixture::start();
    let refused = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let local = "127.0.0.1:0".parse().unwrap();
    for (n, transport, remote, name) in [
        (1, Transport::Tcp, refused, "localhost"),
        (2, Transport::Tls, fixture.address(Transport::Tls), "other.test"),
        (3, Transport::Tls, fixture.address(Transport::Tls), "not a name"),
    ] {
        let flow = Flow { transport, local, remote, connection: ConnectionId::outbound(n) };
        fixture.transports.connect(flow, name.to_owned(), 0);
        assert_eq!(fixture.failed().await, flow);
        assert_eq!(fixture.transports.transmit(&flow, Bytes::new()), Err(FlowGone));
    }
}

const OTHER_SOURCE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));

/// Takes all places but so many, for others whom the core knows or does not.
fn fill(places: &Arc<Places>, but: usize, is_known: bool) -> Vec<places::Place> {
    let take = |n: usize| {
        let (source, connection) = (OTHER_SOURCE, ConnectionId(n as u64));
        let place = places.take(source, connection).unwrap();
        if is_known {
            places.prove(source, connection);
        }
        place
    };
    (1..=places.max() - but).map(take).collect()
}

#[tokio::test]
async fn where_all_connections_are_of_peers_that_are_known_a_further_one_is_closed_at_once() {
    let mut fixture = Fixture::start();
    let others = fill(&fixture.transports.0.places, 1, true);
    let mut last = TcpStream::connect(fixture.address(Transport::Tcp)).await.unwrap();
    last.write_all(OPTIONS.as_bytes()).await.unwrap();
    let (flow, _) = fixture.received().await;
    fixture.transports.prove(&flow);
    let mut above = TcpStream::connect(fixture.address(Transport::Tcp)).await.unwrap();
    assert_eq!(above.read(&mut [0; 8]).await.unwrap_or(0), 0);
    assert_eq!(fixture.transports.connections_refused(), 1);
    drop(others);
    let mut next = TcpStream::connect(fixture.address(Transport::Tcp)).await.unwrap();
    next.write_all(OPTIONS.as_bytes()).await.unwrap();
    fixture.received().await;
}

async fn connect_from(ip: [u8; 4], server: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from((ip, 0))).unwrap();
    socket.connect(server).await.unwrap()
}

#[tokio::test]
async fn the_oldest_connection_makes_room_of_the_source_with_most_whose_peers_nobody_knows() {
    let mut fixture = Fixture::start();
    let server = fixture.address(Transport::Tcp);
    let _others = fill(&fixture.transports.0.places, 4, true);
    let mut streams = Vec::new();
    let mut flows = Vec::new();
    for last in [2, 1, 1, 1] {
        let mut stream = connect_from([127, 0, 0, last], server).await;
        stream.write_all(OPTIONS.as_bytes()).await.unwrap();
        flows.push(fixture.received().await.0);
        streams.push(stream);
    }
    fixture.transports.prove(&flows[1]);
    let mut next = connect_from([127, 0, 0, 3], server).await;
    assert_eq!(fixture.failed().await, flows[2], "the core hears of it");
    assert_eq!(streams[2].read(&mut [0; 8]).await.unwrap_or(0), 0);
    assert_eq!(fixture.transports.connections_refused(), 1);
    let [alone, known, _, last] = &mut streams[..] else { unreachable!("four have connected") };
    for stream in [alone, known, &mut next] {
        stream.write_all(OPTIONS.as_bytes()).await.unwrap();
        fixture.received().await;
    }
    fixture.transports.transmit(&flows[3], Bytes::from_static(b"answer")).unwrap();
    assert_eq!(read_some(last).await, b"answer");
}

#[tokio::test]
async fn while_the_core_is_busy_who_makes_room_is_closed_all_the_same_and_others_come_until_too_many_ends_wait() {
    let mut fixture = Fixture::start();
    let tasks = Arc::clone(&fixture.transports.0.tasks);
    // Each of the two listeners has one for the next that connects.
    while tasks.available_permits() > connections_max() + CONNECTIONS_ENDING_MAX - 2 {
        tokio::task::yield_now().await;
    }
    tasks.forget_permits(tasks.available_permits() - 1);
    let server = fixture.address(Transport::Tcp);
    let _others = fill(&fixture.transports.0.places, 1, true);
    let mut eager = connect_from([127, 0, 0, 2], server).await;
    eager.write_all(OPTIONS.repeat(MAILBOX + 1).as_bytes()).await.unwrap();
    while fixture.transports.0.to_core.capacity() > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let _next = connect_from([127, 0, 0, 3], server).await;
    assert_eq!(eager.read(&mut [0; 8]).await.unwrap_or(0), 0);
    let mut third = connect_from([127, 0, 0, 4], server).await;
    third.write_all(OPTIONS.as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(fixture.transports.connections_refused(), 1, "the third is still to come, and would close the next");
    for _ in 0..MAILBOX {
        fixture.received().await;
    }
    let last = [fixture.mail().await, fixture.mail().await];
    let is_failure = |mail: &ToCore| matches!(mail, ToCore::Input(Input::FlowFailed { .. }));
    assert_eq!(last.iter().filter(|mail| is_failure(mail)).count(), 1, "{last:?}");
    assert_eq!(fixture.transports.connections_refused(), 2);
}

#[tokio::test]
async fn calls_keep_half_of_the_descriptors() {
    let fixture = Fixture::start();
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let places = fixture.transports.0.places.max();
    assert!(places <= CONNECTIONS_MAX && u64::try_from(places).unwrap() <= limit / 2, "{places} of {limit}");
}

/// Opens a connection and tells whether the server closes it at once.
async fn is_closed_at_once(server: SocketAddr) -> bool {
    let mut stream = TcpStream::connect(server).await.unwrap();
    let read = tokio::time::timeout(Duration::from_millis(300), stream.read(&mut [0; 8])).await;
    read.is_ok_and(|read| read.unwrap_or(0) == 0)
}

#[tokio::test]
async fn one_source_cannot_take_all_connections() {
    let mut fixture = Fixture::start();
    let server = fixture.address(Transport::Tcp);
    let sources = Arc::clone(&fixture.transports.0.sources);
    let take = |_| sources.take("127.0.0.1".parse().unwrap()).unwrap();
    let others: Vec<_> = (1..CONNECTIONS_PER_SOURCE_MAX).map(take).collect();
    let mut last = TcpStream::connect(server).await.unwrap();
    last.write_all(OPTIONS.as_bytes()).await.unwrap();
    fixture.received().await;
    assert!(is_closed_at_once(server).await);
    assert_eq!(fixture.transports.connections_refused(), 1);
    drop(others);
    assert!(!is_closed_at_once(server).await);
}

#[tokio::test]
async fn one_source_cannot_take_all_handshakes() {
    let fixture = Fixture::start();
    let server = fixture.address(Transport::Tls);
    let handshakes = Arc::clone(&fixture.transports.0.handshakes_of_sources);
    let take = |_| handshakes.take("127.0.0.1".parse().unwrap()).unwrap();
    let others: Vec<_> = (0..TLS_HANDSHAKES_PER_SOURCE_MAX).map(take).collect();
    assert!(is_closed_at_once(server).await);
    assert_eq!(fixture.transports.connections_refused(), 1);
    drop(others);
    assert!(!is_closed_at_once(server).await);
}

#[tokio::test]
async fn handshakes_that_are_not_finished_are_cut_off_and_make_room() {
    let mut fixture = Fixture::start();
    let server = fixture.address(Transport::Tls);
    let others = fill(&fixture.transports.0.handshakes, 2, true);
    // One that is finished counts no more.
    let stream = TcpStream::connect(server).await.unwrap();
    let mut phone = tls::connect(fixture.tls.client_config(0), stream, "127.0.0.1").await.unwrap();
    phone.write_all(OPTIONS.as_bytes()).await.unwrap();
    fixture.received().await;
    let mut silent = [TcpStream::connect(server).await.unwrap(), TcpStream::connect(server).await.unwrap()];
    let stream = TcpStream::connect(server).await.unwrap();
    tls::connect(fixture.tls.client_config(0), stream, "127.0.0.1").await.unwrap();
    assert_eq!(silent[0].read(&mut [0; 8]).await.unwrap_or(0), 0, "the oldest has made room");
    assert_eq!(fixture.transports.connections_refused(), 1);
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(11)).await;
    tokio::time::resume();
    assert_eq!(silent[1].read(&mut [0; 8]).await.unwrap_or(0), 0, "a silent handshake is cut off");
    drop(others);
    assert!(!is_closed_at_once(server).await);
}

#[tokio::test]
async fn a_port_in_use_is_named_with_its_address_and_a_remedy() {
    let holder = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let taken = holder.local_addr().unwrap();
    let failure = bind::udp(&[taken], 0).unwrap_err();
    assert!(matches!(failure, Failure::Unavailable(_)));
    let text = failure.to_string();
    assert!(text.contains(&taken.to_string()) && text.contains("sip.udp") && text.contains("in use"), "{text}");
    drop(holder);
    bind::udp(&[taken], 0).unwrap();
}
