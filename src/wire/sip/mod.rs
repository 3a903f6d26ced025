//! SIP messages (RFC 3261): framing, a lazy header index over the received bytes, typed views, validation, writing.

pub mod build;
pub mod digest;
pub mod frame;
pub mod headers;
pub mod message;
pub mod uri;
pub mod validate;

pub use build::{RequestBuilder, ResponseBuilder};
pub use headers::{CSeq, NameAddr, Params, Via};
pub use message::{Message, Method, Name};
pub use uri::Uri;
pub use validate::{Fault, validate};
