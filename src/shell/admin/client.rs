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
    let body = format!("Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{order}", order.len());
    exchange(server, &format!("POST {path}"), &body)
}

/// As [`post`], without an order.
pub fn get(server: SocketAddr, path: &str) -> Result<(u16, String), String> {
    exchange(server, &format!("GET {path}"), "\r\n")
}

fn exchange(server: SocketAddr, request: &str, rest: &str) -> Result<(u16, String), String> {
    let answer = answer(server, request, rest).map_err(|e| e.to_string())?;
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
    status.zip(body).ok_or_else(|| "what answers there is no ringdown".to_owned())
}

/// `rest`: what follows the headers that every request has.
fn answer(server: SocketAddr, request: &str, rest: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&server, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    write!(stream, "{request} HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\n{rest}")?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer)?;
    Ok(answer)
}
