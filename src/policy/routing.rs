//! Where a call goes. Cannot be given an emergency number: it takes [`super::emergency::Ordinary`], which classification
//! never makes of one.

use std::sync::Arc;

use crate::config::{Config, Directory, User};

use super::emergency::Ordinary;

/// Where policy sends a call.
#[derive(Clone, Debug)]
pub enum Target {
    /// Every registered contact of this user.
    User(Arc<User>),
    /// Trunks by index into `Config::trunks`, tried in order, and the number in E.164.
    Trunks { trunks: Vec<usize>, number: String },
    /// The final answer: status and reason phrase.
    Refuse(u16, &'static str),
}

/// Routes an ordinary call. `is_from_trunk`: inbound calls reach direct lines only, never another trunk.
pub fn route(dialled: &Ordinary, is_from_trunk: bool, config: &Config, directory: &Directory) -> Target {
    let _ = (dialled, is_from_trunk, config, directory);
    todo!()
}
