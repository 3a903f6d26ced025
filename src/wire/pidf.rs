//! PIDF-LO documents with a civic address (RFC 4119, 5139, 6848), printed for the ERL of an emergency call.
