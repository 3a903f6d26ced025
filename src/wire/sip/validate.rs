//! What makes a message unacceptable, with the answer it deserves.

use super::message::Message;

/// A fault in a message: the status to answer a request with, and a reason phrase that names the fault. For a response,
/// or where no answer is possible, the message is dropped and counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    pub status: u16,
    pub reason: &'static str,
}

/// Checks the mandatory headers and their grammar (RFC 3261 sections 8.1.1, 8.2, 16.3), body length and limits.
pub fn validate(message: &Message) -> Result<(), Fault> {
    let _ = message;
    todo!()
}
