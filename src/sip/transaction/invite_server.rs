//! invite_server
