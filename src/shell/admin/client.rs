//! Commands of this machine's operator to the running server, over its admin API.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use serde::Serialize;

/// Longer than anything there takes.
const TIMEOUT: Duration = Duration::from_secs(90);
/// No answer is longer.
const ANSWER_BYTES_MAX: u64 = 65_536;

/// Status and body of the answer, or why there is none.
pub fn post(server: SocketAddr, path: &str, order: &impl Serialize) -> Result<(u16, String), String> {
    let order = serde_json::to_string(order).map_err(|e| e.to_string())?;
    let head = format!("POST {path} HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: {}\r\n", order.len());
    exchange(server, &head, &order)
}

/// The same for what is only shown.
pub fn get(server: SocketAddr, path: &str) -> Result<(u16, String), String> {
    exchange(server, &format!("GET {path} HTTP/1.1\r\n"), "")
}

fn exchange(server: SocketAddr, head: &str, order: &str) -> Result<(u16, String), String> {
    let answer = ask(server, head, order).map_err(|e| e.to_string())?;
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
    status.zip(body).ok_or_else(|| "what answers there is no ringdown".to_owned())
}

/// `head`: the request line and headers of this request's own.
fn ask(server: SocketAddr, head: &str, order: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&server, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    write!(stream, "{head}Host: {server}\r\nConnection: close\r\n\r\n{order}")?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer)?;
    Ok(answer)
}
