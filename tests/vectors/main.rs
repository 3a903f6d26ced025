//! What the standards print, byte for byte, against what the code does.

mod dial_strings;
mod location_documents;
mod srtp;
