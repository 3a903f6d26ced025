//! Published and house vectors, run against the library.

mod dial_strings;
mod location_documents;
