//! non_invite_client
