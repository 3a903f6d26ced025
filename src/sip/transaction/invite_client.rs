//! invite_client
