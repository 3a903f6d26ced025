//! non_invite_server
