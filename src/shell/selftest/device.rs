//! A phone of the self-test with its connection, clock and media socket.

use std::{
    future::Future,
    io,
    net::{SocketAddr, UdpSocket},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;

use crate::{
    phone::{Config, Event, Input, Media, Output, Phone},
    shell::{clock::Clock, tls, transport::connect_tls},
    types::{ConnectionId, Flow, Instant, Rng, Secret, Transport},
    wire::srtp::Suite,
};

use super::LOOPBACK;

/// No step takes longer than this on a machine that works.
const STEP_TIMEOUT: Duration = Duration::from_secs(5);
const READ_BYTES: usize = 4_096;

/// The server, as a phone must know it.
pub(in crate::shell) struct Registrar {
    pub(in crate::shell) tls: SocketAddr,
    /// Whom the server's certificate must be signed by.
    pub(in crate::shell) ca_file: PathBuf,
    pub(in crate::shell) domain: String,
}

pub(in crate::shell) struct Device {
    name: String,
    phone: Phone,
    clock: Clock,
    connection: TlsStream<TcpStream>,
    media: Arc<UdpSocket>,
    /// Everything the server has said, as it was under TLS.
    heard: Vec<u8>,
}

impl Device {
    /// Connects as the user `account`; the server must prove its address.
    pub(in crate::shell) async fn connect(
        clock: Clock,
        registrar: &Registrar,
        account: &(String, Secret<String>),
        suite: Suite,
        rng: Rng,
    ) -> Result<Self, String> {
        let Registrar { tls: server, ca_file, domain } = registrar;
        let client = tls::client_of(ca_file)?;
        let handshake = async {
            let stream = TcpStream::connect(server).await?;
            stream.set_nodelay(true)?;
            let local = stream.local_addr()?;
            let connection = connect_tls(client, stream, &server.ip().to_string()).await?;
            Ok::<_, io::Error>((local, connection))
        };
        let (local, connection) = in_time("a TLS handshake", async { handshake.await.map_err(text) }).await?;
        let media = UdpSocket::bind((LOOPBACK, 0)).map_err(text)?;
        let (name, password) = account.clone();
        let config = Config {
            user: name.clone(),
            password,
            domain: domain.clone(),
            flow: Flow { transport: Transport::Tls, local, remote: *server, connection: ConnectionId(1) },
            media: media.local_addr().map_err(text)?,
            suite,
        };
        let (phone, media) = (Phone::new(config, rng), Arc::new(media));
        Ok(Self { name, phone, clock, connection, media, heard: Vec::new() })
    }

    pub(in crate::shell) fn name(&self) -> &str {
        &self.name
    }

    pub(in crate::shell) fn media_socket(&self) -> Arc<UdpSocket> {
        Arc::clone(&self.media)
    }

    pub(in crate::shell) fn heard(&self) -> &[u8] {
        &self.heard
    }

    pub(in crate::shell) async fn register(&mut self) -> Result<(), String> {
        self.input(Input::Register);
        match self.next("a registration").await? {
            Event::Registered => Ok(()),
            other => Err(self.unexpected(&other)),
        }
    }

    /// Calls and returns how that came out: established or refused, whatever rang before.
    pub(in crate::shell) async fn dial(&mut self, user: &str) -> Result<Event, String> {
        self.input(Input::Dial { user: user.to_owned() });
        loop {
            match self.next("a call").await? {
                Event::Ringing => {}
                outcome => return Ok(outcome),
            }
        }
    }

    /// Waits until a call that was answered is established.
    pub(in crate::shell) async fn established(&mut self) -> Result<Media, String> {
        match self.next("an incoming call").await? {
            Event::Established(media) => Ok(media),
            other => Err(self.unexpected(&other)),
        }
    }

    /// Lets the call's media rest.
    pub(in crate::shell) async fn hold(&mut self) -> Result<(), String> {
        self.input(Input::Hold);
        self.held().await
    }

    /// Waits until the other side has done so.
    pub(in crate::shell) async fn held(&mut self) -> Result<(), String> {
        match self.next("a hold").await? {
            Event::Held => Ok(()),
            other => Err(self.unexpected(&other)),
        }
    }

    pub(in crate::shell) async fn hang_up(&mut self) -> Result<(), String> {
        self.input(Input::HangUp);
        self.ended().await
    }

    pub(in crate::shell) async fn ended(&mut self) -> Result<(), String> {
        match self.next("the end of the call").await? {
            Event::Ended => Ok(()),
            other => Err(self.unexpected(&other)),
        }
    }

    pub(in crate::shell) fn unexpected(&self, event: &Event) -> String {
        format!("{}: unexpected: {event:?}", self.name)
    }

    fn input(&mut self, input: Input) {
        self.phone.handle_input(self.clock.now(), input);
    }

    /// The next event; `what` is waited for.
    async fn next(&mut self, what: &str) -> Result<Event, String> {
        let name = self.name.clone();
        in_time(what, self.drive()).await.map_err(|error| format!("{name}: {error}"))
    }

    async fn drive(&mut self) -> Result<Event, String> {
        let mut buffer = [0; READ_BYTES];
        loop {
            let wake_at = match self.phone.poll_output() {
                Output::Transmit(bytes) => {
                    self.connection.write_all(&bytes).await.map_err(text)?;
                    continue;
                }
                Output::Event(Event::Fault(fault)) => return Err(format!("the server broke a rule: {fault}")),
                Output::Event(event) => {
                    self.connection.flush().await.map_err(text)?;
                    return Ok(event);
                }
                Output::Timeout(at) => at,
            };
            self.connection.flush().await.map_err(text)?;
            tokio::select! {
                read = self.connection.read(&mut buffer) => match read.map_err(text)? {
                    0 => return Err("the server has closed the connection".to_owned()),
                    len => {
                        self.heard.extend_from_slice(&buffer[..len]);
                        self.input(Input::Received(Bytes::copy_from_slice(&buffer[..len])));
                    }
                },
                () = sleep(self.clock, wake_at) => self.input(Input::Timeout),
            }
        }
    }
}

async fn in_time<T>(what: &str, step: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let result = tokio::time::timeout(STEP_TIMEOUT, step).await;
    result.unwrap_or_else(|_| Err(format!("{what} takes longer than {} s", STEP_TIMEOUT.as_secs())))
}

async fn sleep(clock: Clock, at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep(at.since(clock.now())).await,
        None => std::future::pending().await,
    }
}

fn text(error: io::Error) -> String {
    error.to_string()
}
