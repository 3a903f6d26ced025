//! Every step there is. A word in capitals stands for what the README's table calls by that name.

use ringdown::types::Transport;

use crate::phone::Answer;

use super::{reader::Args, stage::Stage};

/// What may stand indented below a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Below {
    Nothing,
    Toml,
    Checks,
}

#[derive(Debug)]
pub(super) struct Form {
    pub(super) pattern: &'static str,
    pub(super) below: Below,
    /// It waits for what it expects, and may be told how long.
    pub(super) waits: bool,
    /// Somebody does something: whatever was received earlier is of no interest any more.
    pub(super) is_deed: bool,
    pub(super) run: fn(&mut Stage, &Args),
}

impl Form {
    /// The words of a line in the capital places, if everything else is the same.
    pub(super) fn fits(&self, words: &[&str]) -> Option<Vec<(&'static str, String)>> {
        let mut found = Vec::new();
        let mut words = words.iter();
        for part in self.pattern.split(' ') {
            let word = words.next()?;
            if part == "TEXT" {
                let rest: Vec<&str> = std::iter::once(word).chain(words.by_ref()).copied().collect();
                found.push((part, rest.join(" ")));
            } else if part.chars().all(|c| c.is_ascii_uppercase()) {
                found.push((part, (*word).to_owned()));
            } else if part != *word {
                return None;
            }
        }
        words.next().is_none().then_some(found)
    }

    const fn new(pattern: &'static str, run: fn(&mut Stage, &Args)) -> Self {
        Self { pattern, below: Below::Nothing, waits: false, is_deed: false, run }
    }

    /// How things are from now on.
    const fn set(pattern: &'static str, run: fn(&mut Stage, &Args)) -> Self {
        Self::new(pattern, run)
    }

    /// Somebody does something now.
    const fn deed(pattern: &'static str, run: fn(&mut Stage, &Args)) -> Self {
        Self { is_deed: true, ..Self::new(pattern, run) }
    }

    /// Must become true.
    const fn awaited(pattern: &'static str, run: fn(&mut Stage, &Args)) -> Self {
        Self { waits: true, ..Self::new(pattern, run) }
    }

    /// Must become true; what arrived is looked at.
    const fn read(pattern: &'static str, run: fn(&mut Stage, &Args)) -> Self {
        Self { below: Below::Checks, ..Self::awaited(pattern, run) }
    }

    /// Must be true now.
    const fn holds(pattern: &'static str, run: fn(&mut Stage, &Args)) -> Self {
        Self::new(pattern, run)
    }
}

pub(super) const FORMS: &[Form] = &[
    // Who is there. The stage is built from these before the first step.
    Form { below: Below::Toml, ..Form::set("config", |_, _| {}) },
    Form::set("phone NEW EXTENSION", |s, a| s.phone(a.text(0), a.number(1), Transport::Udp)),
    Form::set("phone NEW EXTENSION over TRANSPORT", |s, a| s.phone(a.text(0), a.number(1), transport(a.text(2)))),
    Form::set("trunk NEW", |s, a| s.trunk(a.text(0))),
    // What a phone is like.
    Form::set("PHONE will ring", |s, a| s.of(a).profile.answer = Answer::Ring),
    Form::set("PHONE will answer after TIME", |s, a| s.of(a).profile.answer = Answer::After(a.time(1))),
    Form::set("PHONE will refuse with STATUS", |s, a| s.of(a).profile.answer = Answer::Refuse(status(a, 1))),
    Form::set("PHONE will say nothing", |s, a| s.of(a).profile.answer = Answer::Silent),
    Form::set("PHONE will settle early", |s, a| s.of(a).settles_early = true),
    Form::set("PHONE will call without offer", |s, a| s.of(a).calls_without_offer = true),
    Form::set("PHONE will not encrypt", |s, a| s.of(a).profile.suites.clear()),
    Form::set("PHONE will not refresh", |s, a| s.of(a).rest()),
    Form::set("PHONE has password TEXT", |s, a| s.of(a).profile.password = Some(a.text(1).to_owned())),
    Form::set("PHONE has no password", |s, a| s.of(a).profile.password = None),
    Form::set("PHONE adds header TEXT", Stage::add_header),
    // What a user wants done with calls.
    Form::set("EXTENSION forwards always to NUMBER", |s, a| s.wish(a, |f, to| f.always = to)),
    Form::set("EXTENSION forwards busy to NUMBER", |s, a| s.wish(a, |f, to| f.busy = to)),
    Form::set("EXTENSION forwards unreachable to NUMBER", |s, a| s.wish(a, |f, to| f.unreachable = to)),
    Form::set("EXTENSION forwards no answer to NUMBER after TIME", |s, a| {
        let after_s = u16::try_from(a.time(2).as_secs()).expect("at most 100000 s is refused by the directory");
        s.wish(a, |f, to| (f.no_answer, f.no_answer_after_s) = (to, Some(after_s)));
    }),
    Form::set("EXTENSION wants no calls", |s, a| s.wish(a, |f, _| f.is_do_not_disturb = true)),
    Form::set("EXTENSION forwards nothing", |s, a| s.wish(a, |f, _| *f = ringdown::config::Forwarding::default())),
    // The network and the server.
    Form::set("network loses PERCENT", |s, a| s.world.net.weather.lost_per_mille = 10 * a.number(0)),
    Form::set("network doubles PERCENT", |s, a| s.world.net.weather.doubled_per_mille = 10 * a.number(0)),
    Form::set("network delays TIME to TIME", Stage::delay),
    Form::set("network is calm", |s, _| s.world.net.heal()),
    Form::set("network loses MESSAGE from PHONE COUNT times", |s, a| s.lose(a, true, Some(a.number(2)))),
    Form::set("network loses MESSAGE to PHONE COUNT times", |s, a| s.lose(a, false, Some(a.number(2)))),
    Form::set("network loses every MESSAGE from PHONE", |s, a| s.lose(a, true, None)),
    Form::deed("server restarts", |s, _| s.world.crash()),
    Form::deed("server takes no new calls", |s, _| s.world.server.drain(s.world.now, &mut s.world.net)),
    // What phones and people do.
    Form::deed("everyone registers", |s, _| s.register_all()),
    Form::deed("PHONE registers", |s, a| s.register(s.id(a, 0), 600)),
    Form::deed("PHONE registers for TIME", |s, a| {
        s.register(s.id(a, 0), u32::try_from(a.time(1).as_secs()).unwrap_or(u32::MAX));
    }),
    Form::deed("PHONE unregisters", |s, a| s.act(a, |p, now| p.unregister(now))),
    Form::deed("PHONE calls NUMBER", Stage::dial),
    Form::deed("PHONE answers", |s, a| s.incoming(a, |p, now, call| p.accept(now, call))),
    Form::deed("PHONE refuses with STATUS", |s, a| {
        s.incoming(a, |p, now, call| p.refuse(now, call, status(a, 1)));
    }),
    Form::deed("PHONE redirects to NUMBER", |s, a| s.incoming(a, |p, now, call| p.redirect(now, call, a.text(1)))),
    Form::deed("PHONE plays early media", |s, a| s.incoming(a, |p, now, call| p.play_early(now, call))),
    Form::deed("PHONE hangs up", Stage::hang_up),
    Form::deed("PHONE holds", |s, a| s.hold(a, true)),
    Form::deed("PHONE resumes", |s, a| s.hold(a, false)),
    Form::deed("PHONE refreshes", |s, a| s.in_call(a, |p, now, call| p.refresh(now, call))),
    Form::deed("PHONE presses KEY", |s, a| s.in_call(a, |p, _, call| p.press(call, key(a)))),
    Form::deed("PHONE turns to call COUNT", Stage::turn_to),
    Form::deed("PHONE transfers to NUMBER", |s, a| s.in_call(a, |p, now, call| p.transfer(now, call, a.text(1)))),
    Form::deed("PHONE joins call COUNT and call COUNT", Stage::join),
    Form::deed("PHONE takes over from PHONE", Stage::take_over),
    Form::deed("PHONE texts NUMBER TEXT", |s, a| s.act(a, |p, now| p.text(now, a.text(1), a.text(2)))),
    Form::deed("PHONE sends METHOD to NUMBER", |s, a| s.act(a, |p, now| p.ask(now, leak(a.text(1)), a.text(2)))),
    Form::deed("PHONE subscribes to EVENT of NUMBER", |s, a| {
        s.act(a, |p, now| p.subscribe(now, a.text(2), a.text(1), 3600, None));
    }),
    Form::deed("PHONE unsubscribes from EVENT of NUMBER", Stage::unsubscribe),
    Form::deed("PHONE is cut off for TIME", Stage::cut_off),
    Form::deed("PHONE hears nothing of the network for TIME", Stage::deafen),
    Form::deed("PHONE loses its connection", Stage::break_connection),
    Form::deed("PHONE restarts", |s, a| s.world.restart(s.id(a, 0))),
    Form::new("wait TIME", |s, a| s.world.run(a.time(0))),
    // What must be.
    Form::awaited("PHONE rings", Stage::rings),
    Form::awaited("PHONE hears ringing", Stage::hears_ringing),
    Form::awaited("PHONE is in a call", Stage::is_in_call),
    Form::awaited("PHONE is idle", Stage::is_idle),
    Form::awaited("PHONE talks with PHONE", Stage::talks),
    Form::holds("PHONE does not ring", Stage::does_not_ring),
    Form::holds("PHONE hears PHONE", Stage::hears),
    Form::holds("PHONE does not hear PHONE", Stage::does_not_hear),
    Form::awaited("PHONE hears key KEY", |s, a| s.hears_key(a, key(a))),
    Form::read("PHONE receives MESSAGE", |s, a| s.receives(a, a.text(1), "INVITE")),
    Form::read("PHONE receives MESSAGE to METHOD", |s, a| s.receives(a, a.text(1), a.text(2))),
    Form::holds("PHONE receives no MESSAGE", |s, a| s.receives_no(a, a.text(1))),
    Form::holds("PHONE receives nothing", Stage::receives_nothing),
    Form::read("server records a call", Stage::records),
    Form::holds("server records nothing", Stage::records_nothing),
];

fn transport(word: &str) -> Transport {
    match word {
        "tcp" => Transport::Tcp,
        "tls" => Transport::Tls,
        _ => Transport::Udp,
    }
}

fn status(args: &Args, index: usize) -> u16 {
    args.text(index).parse().expect("it was read as a status")
}

/// Phones know names for ever; a test has few.
pub(super) fn leak(word: &str) -> &'static str {
    word.to_owned().leak()
}

fn key(args: &Args) -> char {
    args.text(1).chars().next().expect("a key is one letter")
}
