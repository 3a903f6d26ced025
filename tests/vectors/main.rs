//! Published test vectors, one module per document.

mod alloc;
mod rfc4475;
mod rfc5118;
