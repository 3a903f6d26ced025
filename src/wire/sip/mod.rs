//! SIP messages (RFC 3261): framing, a lazy header index over the received bytes, typed views, validation, writing.
//!
//! A message is read in three steps, each with its own kind of answer to bad input:
//!
//! 1. [`frame::Framer`] cuts a stream into messages; a stream it cannot cut is closed.
//! 2. [`Message::parse`] finds lines and names headers. Where it fails, [`salvage`] may still recover enough for a 400.
//! 3. [`validate()`] names the first fault of an indexed message, with the status to answer it with.
//!
//! ```
//! use ringdown::wire::sip::{Message, Method, validate};
//!
//! let options = "OPTIONS sip:a@example.com SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1\r\n\
//!                f: <sip:b@example.com>;tag=2\r\nt: <sip:a@example.com>\r\ni: 3\r\nCSeq: 4 OPTIONS\r\n\r\n";
//! let message = Message::parse(options.into()).expect("an indexable message");
//! assert_eq!(validate(&message), Ok(()));
//! assert_eq!(message.method(), Some(Method::Options));
//! assert_eq!(message.from_tag(), Some("2"));
//! ```

mod body;
pub mod build;
pub mod digest;
pub mod frame;
pub mod headers;
pub mod message;
mod name;
pub mod overload;
#[cfg(test)]
mod properties;
pub mod reason;
mod salvage;
mod scan;
pub mod uri;
mod usual;
mod usual_lines;
pub mod validate;

pub use build::{RequestBuilder, ResponseBuilder};
pub use headers::{CSeq, NameAddr, Params, Via};
pub use message::{Message, Method, Name};
pub use salvage::salvage;
pub use uri::Uri;
pub use validate::{Fault, validate};
