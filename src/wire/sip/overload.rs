//! What a server says of its load in the top Via of a response (RFC 7339 section 4), to a client whose request offered to
//! hear it.

use bytes::Bytes;

use super::headers::{Params, Via, split_values};

/// The one algorithm that every client of RFC 7339 knows.
const ALGORITHM: &str = "loss";

/// How long a client heeds what it heard, in milliseconds, unless it hears something new (section 4.4).
const VALIDITY_MS: u32 = 1_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Of a hundred requests that the client would send, how many it shall not.
    pub loss_percent: u8,
    /// Tells news from what arrives late: milliseconds on one timeline (section 4.5).
    pub sequence_ms: u64,
}

/// Whether the request that this response answers may have offered it. Cheap, and wrong in one direction only.
pub fn may_be_asked(message: &[u8]) -> bool {
    let Some((_, via)) = top_via(message) else { return false };
    memchr::memchr_iter(b';', via.as_bytes()).any(|at| {
        let name = via[at + 1..].trim_start().as_bytes();
        name.get(..2).is_some_and(|name| name.eq_ignore_ascii_case(b"oc"))
    })
}

/// The response with the load in it. `None`: the client did not ask, or for another algorithm.
pub fn with_load(response: &Bytes, load: Load) -> Option<Bytes> {
    let (line_start, line) = top_via(response)?;
    let top = split_values(line).next()?;
    let via = Via::parse(top)?;
    let is_asked = via.params.has("oc");
    let knows = |algorithms: &str| algorithms.split(',').any(|name| name.trim().eq_ignore_ascii_case(ALGORITHM));
    if !is_asked || !via.params.get("oc-algo").is_none_or(knows) {
        return None;
    }
    let mut value = top[..top.len() - via.params.text.len()].to_owned();
    for piece in via.params.pieces().filter(|piece| !is_about_load(Params::name_of(piece))) {
        value.push(';');
        value.push_str(piece);
    }
    let Load { loss_percent, sequence_ms } = load;
    // Zero: nothing is asked of the client, which learns that this server would (section 4.4).
    let validity = if loss_percent == 0 { 0 } else { VALIDITY_MS };
    let (seconds, milliseconds) = (sequence_ms / 1_000, sequence_ms % 1_000);
    value += &format!(
        ";oc={loss_percent};oc-algo=\"{ALGORITHM}\";oc-validity={validity};oc-seq={seconds}.{milliseconds:03}"
    );
    let start = line_start + line.find(top)?;
    let (before, after) = (&response[..start], &response[start + top.len()..]);
    Some([before, value.as_bytes(), after].concat().into())
}

fn is_about_load(name: &str) -> bool {
    ["oc", "oc-algo", "oc-validity", "oc-seq"].iter().any(|known| name.eq_ignore_ascii_case(known))
}

/// The first Via line of a response as this server writes it, right after the status line, and where its value begins.
fn top_via(message: &[u8]) -> Option<(usize, &str)> {
    let status_end = memchr::memchr(b'\n', message).filter(|_| message.starts_with(b"SIP/2.0 "))?;
    let line = message[status_end + 1..].strip_prefix(b"Via: ")?;
    let value = str::from_utf8(&line[..memchr::memchr(b'\r', line)?]).ok()?;
    Some((message.len() - line.len(), value))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOAD: Load = Load { loss_percent: 20, sequence_ms: 1_282_321_615_042 };

    /// The top Via line of a response to a request with these parameters in it.
    fn told(parameters: &str, load: Load) -> Option<String> {
        let text =
            format!("SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK1{parameters}\r\nTo: <sip:a@b;oc>\r\n\r\n");
        let told = with_load(&Bytes::from(text.clone()), load)?;
        assert!(may_be_asked(text.as_bytes()));
        let told = String::from_utf8(told.to_vec()).unwrap();
        let (head, rest) = (told.strip_prefix("SIP/2.0 200 OK\r\nVia: ").unwrap(), "\r\nTo: <sip:a@b;oc>\r\n\r\n");
        Some(head.strip_suffix(rest).unwrap().to_owned())
    }

    #[test]
    fn a_client_that_asks_is_told_and_keeps_the_rest_of_its_via() {
        let load = ";oc=20;oc-algo=\"loss\";oc-validity=1000;oc-seq=1282321615.042";
        for asked in [";oc;oc-algo=\"loss,rate\"", ";OC;oc-algo=\"A, Loss\"", ";oc", "; oc ;oc-algo=loss"] {
            let expected = format!("SIP/2.0/UDP a;branch=z9hG4bK1;received=192.0.2.1;rport=5{load}");
            assert_eq!(told(&format!("{asked};received=192.0.2.1;rport=5"), LOAD), Some(expected), "{asked}");
        }
        let other = ", SIP/2.0/UDP b;branch=z9hG4bK2;oc";
        let told = told(&format!(";oc{other}"), LOAD).unwrap();
        assert_eq!(told, format!("SIP/2.0/UDP a;branch=z9hG4bK1{load}{other}"), "only the sender's own Via");
    }

    #[test]
    fn what_a_client_says_of_load_itself_is_replaced_and_no_load_ends_it() {
        let idle = Load { loss_percent: 0, ..LOAD };
        let told = told(";oc=99;oc-validity=99999;oc-seq=9.9", idle).unwrap();
        assert!(told.ends_with("z9hG4bK1;oc=0;oc-algo=\"loss\";oc-validity=0;oc-seq=1282321615.042"), "{told}");
    }

    #[test]
    fn whoever_did_not_ask_is_told_nothing() {
        for silent in ["", ";octet=1", ";oc-algo=\"loss\"", ";oc;oc-algo=\"rate\"", ", SIP/2.0/UDP b;oc"] {
            assert_eq!(told(silent, LOAD), None, "{silent}");
        }
        let request = Bytes::from("INVITE sip:a@b SIP/2.0\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK1;oc\r\n\r\n");
        assert!(!may_be_asked(&request) && with_load(&request, LOAD).is_none());
        assert!(!may_be_asked(b"SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK1\r\nTo: <sip:a@b;oc>\r\n\r\n"));
    }
}
