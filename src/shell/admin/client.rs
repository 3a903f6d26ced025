//! Commands of this machine's operator to the running server, over its admin API.

use std::{
    fmt, fs,
    io::{ErrorKind, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::Path,
    time::Duration,
};

use serde::Serialize;

use crate::{config::Config, shell::failure::Failure, types::Secret};

use super::gate::operator_file;

/// Longer than anything there takes.
const TIMEOUT: Duration = Duration::from_secs(90);
/// No answer is longer.
const ANSWER_BYTES_MAX: u64 = 65_536;

/// The running server, as this machine's operator reaches it.
#[derive(Clone, Debug)]
pub struct Client {
    address: SocketAddr,
    token: Secret<String>,
}

impl Client {
    /// The server of this configuration.
    pub fn of(config: &Config) -> Result<Self, Failure> {
        let off = || Failure::Usage("admin.listen is \"off\": the running server cannot be asked.".to_owned());
        Self::new(config.admin.listen.ok_or_else(off)?, &config.server.state_dir)
    }

    /// The server that listens there and has this state folder.
    pub fn new(address: SocketAddr, state_dir: &Path) -> Result<Self, Failure> {
        let file = operator_file(state_dir);
        let token = fs::read_to_string(&file).map_err(|error| {
            let remedy = match error.kind() {
                ErrorKind::NotFound => "The server writes it when it starts; is it running, with this state folder?",
                _ => "Run this as the user of the server, or as root.",
            };
            Failure::Unavailable(format!("{}: {error}. {remedy}", file.display()))
        })?;
        Ok(Self { address, token: Secret::new(token) })
    }

    /// Status and body of the answer, or why there is none.
    pub fn post(&self, path: &str, order: &impl Serialize) -> Result<(u16, String), String> {
        let order = serde_json::to_string(order).map_err(|e| e.to_string())?;
        let body = format!("Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{order}", order.len());
        self.exchange(&format!("POST {path}"), &body)
    }

    /// As [`Self::post`], without an order.
    pub fn get(&self, path: &str) -> Result<(u16, String), String> {
        self.exchange(&format!("GET {path}"), "\r\n")
    }

    fn exchange(&self, request: &str, rest: &str) -> Result<(u16, String), String> {
        let answer = self.answer(request, rest).map_err(|e| e.to_string())?;
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
        let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
        status.zip(body).ok_or_else(|| "what answers there is no ringdown".to_owned())
    }

    /// `rest`: what follows the headers that every request has.
    fn answer(&self, request: &str, rest: &str) -> std::io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&self.address, TIMEOUT)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        let token = format!("Authorization: Bearer {}\r\n", self.token.expose());
        let token = Secret::new(token);
        let headers = format!("Host: {}\r\nConnection: close\r\n", self.address);
        write!(stream, "{request} HTTP/1.1\r\n{headers}{}{rest}", token.expose())?;
        let mut answer = String::new();
        stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer)?;
        Ok(answer)
    }
}

/// As messages name it.
impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.address)
    }
}
