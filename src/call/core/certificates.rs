//! Peers that have shown a client certificate: a trunk is known by it, a device is held to it.
//!
//! A certificate takes the place of a trunk's address. A device's names the only users that its connection may speak for; it
//! spares nobody the password. Emergency calls are not held to it.

use super::Core;
use crate::{
    config::User,
    policy::certificate,
    types::{Flow, certificate::SubjectNames},
};

impl Core {
    /// The peer of this connection has proven these names, before its first message.
    pub(super) fn certified(&mut self, flow: Flow, names: &SubjectNames) {
        self.ctx.trunks.certified(flow.connection, names);
        let users = certificate::users(names, |host| self.site.is_own_host(host));
        if !users.is_empty() {
            self.certified_users.insert(flow.connection, users);
        }
    }

    /// Whether the connection's certificate names users, and this is none of them.
    pub(super) fn contradicts_certificate(&self, flow: &Flow, user: &User) -> bool {
        let Some(certified) = self.certified_users.get(&flow.connection) else { return false };
        let is_user = |name: &String| self.ctx.directory.by_dialled(name).is_some_and(|named| named.name == user.name);
        !certified.iter().any(is_user)
    }
}
