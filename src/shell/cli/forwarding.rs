//! `ringdown user forward` and `ringdown user dnd`.

use clap::{Args, ValueEnum};

use crate::{
    config::{Config, Directory, Forwarding, User, UserRules, directory::NO_ANSWER_S_DEFAULT},
    policy::reach,
    shell::{
        failure::Failure,
        run, settings,
        store::{Store, StoreError},
    },
};

/// A target is an extension, a user name, an outside number as it is dialled, or `voicemail`; `off` takes it back.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// Name of the user.
    pub(super) name: String,
    /// Every call; no phone of the user rings.
    #[arg(long, value_name = "TARGET")]
    always: Option<String>,
    /// Calls that find the user busy or are declined.
    #[arg(long, value_name = "TARGET")]
    busy: Option<String>,
    /// Calls that nobody answers in time; also those that reach no phone, without a target of their own.
    #[arg(long, value_name = "TARGET")]
    no_answer: Option<String>,
    /// Calls that reach no phone.
    #[arg(long, value_name = "TARGET")]
    unreachable: Option<String>,
    /// Seconds until a call counts as not answered; 20 unless set.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u16).range(5..=120))]
    after: Option<u16>,
    /// Take every target back.
    #[arg(long, conflicts_with_all = ["always", "busy", "no_answer", "unreachable", "after"])]
    off: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Switch {
    On,
    Off,
}

pub(super) fn forward(config: &Config, store: &mut Store, options: &Options) -> Result<(), Failure> {
    let directory = store.directory().map_err(|e| run::store_failure(&e))?;
    let user = find(&directory, &options.name)?;
    let forwarding = options.applied_to(&user.forwarding);
    let changed = User { forwarding: forwarding.clone(), ..user.clone() };
    settings::refuse_errors(&UserRules::new(config).check(&changed))?;
    let is_new = |wanted: &(_, _)| user.forwarding.targets().all(|known| known != *wanted);
    for (condition, target) in forwarding.targets().filter(is_new) {
        reach::check_target(target, user, config, &directory)
            .map_err(|message| Failure::Usage(format!("--{condition}: {message}.")))?;
    }
    if options.after.is_some() && forwarding.no_answer.is_none() {
        return Err(Failure::Usage("--after: there is no target to go to then; add --no-answer TARGET.".to_owned()));
    }
    if forwarding != user.forwarding {
        store.set_forwarding(&user.name, &forwarding).map_err(|e| run::store_failure(&e))?;
    }
    super::print(&format!("calls for {}: {}\n", user.name, way(&forwarding)));
    Ok(())
}

impl Options {
    fn applied_to(&self, before: &Forwarding) -> Forwarding {
        if self.off {
            return Forwarding { is_do_not_disturb: before.is_do_not_disturb, ..Forwarding::default() };
        }
        let next = |option: &Option<String>, before: &Option<String>| match option.as_deref() {
            Some("off") => None,
            Some(target) => Some(target.to_owned()),
            None => before.clone(),
        };
        Forwarding {
            always: next(&self.always, &before.always),
            busy: next(&self.busy, &before.busy),
            no_answer: next(&self.no_answer, &before.no_answer),
            no_answer_after_s: self.after.or(before.no_answer_after_s),
            unreachable: next(&self.unreachable, &before.unreachable),
            is_do_not_disturb: before.is_do_not_disturb,
        }
    }
}

pub(super) fn do_not_disturb(store: &mut Store, name: &str, state: Switch) -> Result<(), Failure> {
    let directory = store.directory().map_err(|e| run::store_failure(&e))?;
    let user = find(&directory, name)?;
    let forwarding = Forwarding { is_do_not_disturb: state == Switch::On, ..user.forwarding.clone() };
    store.set_forwarding(name, &forwarding).map_err(|e| run::store_failure(&e))?;
    super::print(&format!("calls for {name}: {}\n", way(&forwarding)));
    Ok(())
}

pub(super) fn find<'d>(directory: &'d Directory, name: &str) -> Result<&'d User, Failure> {
    let missing = || run::store_failure(&StoreError::NoSuchUser(name.to_owned()));
    directory.by_name(name).map(|user| &**user).ok_or_else(missing)
}

/// Where a user's calls go, for people.
pub(super) fn way(forwarding: &Forwarding) -> String {
    let mut parts: Vec<_> =
        forwarding.targets().map(|(condition, target)| format!("{condition} to {target}")).collect();
    if forwarding.no_answer.is_some() {
        parts.push(format!("after {} s", forwarding.no_answer_after_s.unwrap_or(NO_ANSWER_S_DEFAULT)));
    }
    if forwarding.is_do_not_disturb {
        parts.push("do not disturb".to_owned());
    }
    if parts.is_empty() { "ring the user's phones".to_owned() } else { parts.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_keeps_its_target_until_it_is_changed_or_taken_back() {
        let text = |text: &str| Some(text.to_owned());
        let none = || Options {
            name: "alice".to_owned(),
            always: None,
            busy: None,
            no_answer: None,
            unreachable: None,
            after: None,
            off: false,
        };
        let before = Forwarding { busy: text("1002"), no_answer: text("1003"), ..Forwarding::default() };
        let before = Forwarding { is_do_not_disturb: true, ..before };
        assert_eq!(none().applied_to(&before), before);
        let after =
            Options { busy: text("off"), no_answer: text("1004"), after: Some(9), ..none() }.applied_to(&before);
        assert_eq!(way(&after), "no-answer to 1004, after 9 s, do not disturb");
        let after = Options { off: true, ..none() }.applied_to(&after);
        assert_eq!(way(&after), "do not disturb");
        assert_eq!(way(&Forwarding::default()), "ring the user's phones");
    }
}
