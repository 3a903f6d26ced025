//! Who may register, and under which numbers: an immutable snapshot, swapped whole when users change.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use crate::{types::Private, wire::sip::digest::Credential};

/// One user of the company.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// User part of the address-of-record and digest username.
    pub name: String,
    /// Internal number.
    pub extension: String,
    /// E.164 with `+`.
    pub direct_line: Option<String>,
    pub credential: Credential,
    pub forwarding: Forwarding,
    pub place: Place,
}

/// Elements of RFC 5139 and RFC 6848 by name.
pub type PrivateAddress = Private<BTreeMap<String, String>>;

/// What emergency services may be told of where a user's telephones are (emergency RULES 4).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Where the direct line rings, if it is not at the company's address.
    pub private_address: Option<PrivateAddress>,
    /// Others make calls as this user, too: a telephone of a room, a hot desk, a line of several people.
    pub is_shared: bool,
}

/// Where a user's calls go in place of the user's own devices. A target is what the user could dial: an extension, a name,
/// an outside number, or `voicemail` for `dialing.voicemail`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forwarding {
    pub always: Option<String>,
    pub busy: Option<String>,
    pub no_answer: Option<String>,
    /// Seconds until nobody has answered; `None`: [`NO_ANSWER_S_DEFAULT`].
    pub no_answer_after_s: Option<u16>,
    pub unreachable: Option<String>,
    /// No device rings; a call is as good as busy.
    pub is_do_not_disturb: bool,
}

/// About four rings.
pub const NO_ANSWER_S_DEFAULT: u16 = 20;

impl Forwarding {
    /// Each target with the name of its condition.
    pub fn targets(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let all = [
            ("always", &self.always),
            ("busy", &self.busy),
            ("no-answer", &self.no_answer),
            ("unreachable", &self.unreachable),
        ];
        all.into_iter().filter_map(|(name, target)| target.as_deref().map(|target| (name, target)))
    }
}

/// All users, by name, extension and direct line. Names compare byte for byte.
#[derive(Clone, Debug, Default)]
pub struct Directory {
    users: Vec<Arc<User>>,
    by_name: HashMap<String, usize>,
    by_extension: HashMap<String, usize>,
    by_direct_line: HashMap<String, usize>,
}

impl Directory {
    /// Later duplicates of a name, extension or direct line are ignored; the store refuses them beforehand.
    pub fn new(users: impl IntoIterator<Item = User>) -> Self {
        let mut directory = Self::default();
        for user in users {
            let index = directory.users.len();
            directory.by_name.entry(user.name.clone()).or_insert(index);
            directory.by_extension.entry(user.extension.clone()).or_insert(index);
            if let Some(line) = &user.direct_line {
                directory.by_direct_line.entry(line.clone()).or_insert(index);
            }
            directory.users.push(Arc::new(user));
        }
        directory
    }

    pub fn by_name(&self, name: &str) -> Option<&Arc<User>> {
        self.by_name.get(name).map(|&i| &self.users[i])
    }

    /// By extension first, then by name: what a caller may dial.
    pub fn by_dialled(&self, dialled: &str) -> Option<&Arc<User>> {
        self.by_extension.get(dialled).map(|&i| &self.users[i]).or_else(|| self.by_name(dialled))
    }

    /// `number`: E.164 with `+`.
    pub fn by_direct_line(&self, number: &str) -> Option<&Arc<User>> {
        self.by_direct_line.get(number).map(|&i| &self.users[i])
    }

    pub fn iter(&self) -> impl Iterator<Item = &Arc<User>> {
        self.users.iter()
    }

    pub fn len(&self) -> usize {
        self.users.len()
    }

    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }
}
