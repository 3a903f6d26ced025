//! A phone of either make behind one keyboard, so that a feature is tested in the same words on both.

use std::{collections::HashMap, path::PathBuf, time::Duration};

use crate::{
    baresip::{self, Baresip},
    common::{
        process::wait_for,
        server::{Account, Ringdown},
    },
    linphone::{self, Linphone},
    tone::heard_since,
};

#[derive(Clone, Copy, Debug)]
pub(crate) enum Make {
    Baresip,
    Linphone,
}

pub(crate) enum Phone {
    Baresip(Box<Baresip>),
    Linphone(Linphone),
}

impl Phone {
    /// Started and registered over `udp`, `tcp` or `tls`; calls are SDES-SRTP.
    pub(crate) fn start(
        server: &Ringdown,
        make: Make,
        transport: &str,
        account: Account,
        hz: u32,
        answers: bool,
    ) -> Self {
        match make {
            Make::Baresip => {
                let ca = server.ca();
                let setup = baresip::Setup::new(account, hz, answers).over(transport, Some(&ca));
                Self::Baresip(Box::new(Baresip::start(server, &setup)))
            }
            Make::Linphone => {
                let setup = linphone::Setup { transport, ..linphone::Setup::new(account, hz, answers) };
                Self::Linphone(Linphone::start_as(server, &setup))
            }
        }
    }

    pub(crate) fn dial(&mut self, number: &str) {
        match self {
            Self::Baresip(phone) => phone.dial(number),
            Self::Linphone(phone) => phone.dial(number),
        }
    }

    pub(crate) fn answer(&mut self) {
        match self {
            Self::Baresip(phone) => phone.answer(),
            Self::Linphone(phone) => phone.answer(),
        }
    }

    pub(crate) fn hang_up(&mut self) {
        match self {
            Self::Baresip(phone) => phone.hang_up(),
            Self::Linphone(phone) => phone.hang_up(),
        }
    }

    pub(crate) fn hold(&mut self) {
        match self {
            Self::Baresip(phone) => phone.hold(),
            Self::Linphone(phone) => phone.pause(),
        }
    }

    pub(crate) fn resume(&mut self) {
        match self {
            Self::Baresip(phone) => phone.resume(),
            Self::Linphone(phone) => phone.resume(),
        }
    }

    /// Sends the other end of its call to a number.
    pub(crate) fn transfer(&mut self, number: &str) {
        match self {
            Self::Baresip(phone) => phone.transfer(number),
            Self::Linphone(phone) => phone.transfer(number),
        }
    }

    /// What happened so far answers no wait any more.
    pub(crate) fn forget(&mut self) {
        match self {
            Self::Baresip(phone) => phone.forget(),
            Self::Linphone(phone) => phone.forget(),
        }
    }

    pub(crate) fn wait_incoming(&self) {
        match self {
            Self::Baresip(phone) => phone.wait_incoming(),
            Self::Linphone(phone) => phone.wait_debug("to LinphoneCallIncomingReceived"),
        }
    }

    pub(crate) fn wait_established(&self) {
        match self {
            Self::Baresip(phone) => phone.wait_established(),
            Self::Linphone(phone) => phone.wait_established(),
        }
    }

    pub(crate) fn wait_closed(&self) {
        match self {
            Self::Baresip(phone) => drop(phone.wait_closed()),
            Self::Linphone(phone) => phone.wait_debug("to LinphoneCallReleased"),
        }
    }

    /// Everything it logged, SIP messages included.
    pub(crate) fn log(&self) -> String {
        match self {
            Self::Baresip(phone) => phone.log(),
            Self::Linphone(phone) => phone.log(),
        }
    }

    /// Waits until it has heard two seconds of a tone from now on.
    pub(crate) fn wait_heard(&self, hz: u32) {
        let samples = |path: PathBuf| (path.clone(), heard_since(&path, 0, hz).0);
        let seen: HashMap<_, _> = self.recordings().into_iter().map(samples).collect();
        wait_for(&format!("{hz} Hz for two seconds"), Duration::from_secs(20), || {
            let new = |path: &PathBuf| heard_since(path, seen.get(path).copied().unwrap_or(0), hz).1;
            (self.recordings().iter().map(new).sum::<f64>() >= 2.0).then_some(())
        });
    }

    fn recordings(&self) -> Vec<PathBuf> {
        match self {
            Self::Baresip(phone) => phone.recordings(),
            Self::Linphone(phone) => phone.recordings(),
        }
    }
}
