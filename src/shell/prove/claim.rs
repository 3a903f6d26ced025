//! What the operator reads: one line for each claim, with how it was tested.

use std::fmt::Write as _;

use serde::Serialize;

use crate::shell::failure::Failure;

/// How a claim came out, with what was seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "verdict", content = "seen", rename_all = "kebab-case")]
pub(super) enum Verdict {
    Shown(String),
    /// Neither shown nor refuted here; the text says why.
    NotShown(String),
    Failed(String),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Claim {
    pub(super) name: &'static str,
    pub(super) claim: &'static str,
    #[serde(flatten)]
    pub(super) verdict: Verdict,
    /// How it was tested.
    pub(super) how: &'static str,
}

/// What nothing here can show, in both formats.
pub(super) const OUT_OF_REACH: &str = "Out of reach of this and of any such proof: packets in the kernel's buffers; whoever rules the kernel (root) or the \
     machine beneath it (a hypervisor); the phones; and, while a packet is on its way, the payload of legs with AES-GCM, \
     on hold too, and RTCP of any leg, which pass through the server's memory. A plain RTP leg is readable for everybody on its path, and \
     its payload lies in the packet buffer as it comes and goes: nothing here speaks over one. Not covered either: transfers, fax and AF_XDP; what a media \
     thread that was taken over could do by way of the memory that threads share, the index of the database's log (ringdown.db-shm), \
     which is mapped, included; and another configuration than this one: `ringdown prove --config FILE` takes over what bears on it, and \
     `ringdown check` says what your machine and limits grant.";

impl Verdict {
    /// Of a claim that was tested twice: the worse one, or both.
    pub(super) fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Shown(one), Self::Shown(other)) => Self::Shown(format!("{one}; then {other}")),
            (failed @ Self::Failed(_), _) | (_, failed @ Self::Failed(_)) => failed,
            (not_shown @ Self::NotShown(_), _) | (_, not_shown @ Self::NotShown(_)) => not_shown,
        }
    }
}

impl Claim {
    fn line(&self) -> String {
        let (word, seen) = match &self.verdict {
            Verdict::Shown(seen) => ("shown", seen),
            Verdict::NotShown(seen) => ("not shown", seen),
            Verdict::Failed(seen) => ("FAILED", seen),
        };
        format!("{word:<9}  {}: {}: {seen}. Tested by {}.", self.name, self.claim, self.how)
    }
}

/// `settings`: what was taken from the operator's configuration.
pub(super) fn text(settings: Option<&str>, claims: &[Claim]) -> String {
    let mut out = settings.map_or_else(String::new, |settings| format!("{settings}\n\n"));
    for claim in claims {
        writeln!(out, "{}", claim.line()).expect("strings take everything");
    }
    writeln!(out, "\n{OUT_OF_REACH}").expect("strings take everything");
    out
}

pub(super) fn json(settings: Option<&str>, claims: &[Claim]) -> String {
    #[derive(Serialize)]
    struct Report<'a> {
        settings: Option<&'a str>,
        claims: &'a [Claim],
        out_of_reach: &'a str,
    }
    let report = Report { settings, claims, out_of_reach: OUT_OF_REACH };
    serde_json::to_string_pretty(&report).expect("a report has only plain fields") + "\n"
}

/// # Errors
/// [`Failure::Internal`] where a claim has failed; [`Failure::Unavailable`] where one could not be shown.
pub(super) fn verdict(claims: &[Claim]) -> Result<(), Failure> {
    let count = |is_wanted: fn(&Verdict) -> bool| claims.iter().filter(|claim| is_wanted(&claim.verdict)).count();
    let failed = count(|verdict| matches!(verdict, Verdict::Failed(_)));
    let not_shown = count(|verdict| matches!(verdict, Verdict::NotShown(_)));
    match (failed, not_shown) {
        (0, 0) => Ok(()),
        (0, _) => Err(Failure::Unavailable(format!("{not_shown} of {} claims could not be shown here.", claims.len()))),
        (_, _) => Err(Failure::Internal(format!("{failed} of {} claims failed.", claims.len()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(verdict: Verdict) -> Claim {
        Claim { name: "log", claim: "the log holds no audio", verdict, how: "searching it" }
    }

    #[test]
    fn of_two_verdicts_the_worse_one_counts() {
        let [shown, not_shown, failed] =
            [Verdict::Shown, Verdict::NotShown, Verdict::Failed].map(|verdict| verdict("x".to_owned()));
        assert_eq!(shown.clone().and(shown.clone()), Verdict::Shown("x; then x".to_owned()));
        for (worse, better) in [(&not_shown, &shown), (&failed, &shown), (&failed, &not_shown)] {
            assert_eq!([&worse.clone().and(better.clone()), &better.clone().and(worse.clone())], [worse, worse]);
        }
    }

    #[test]
    fn every_verdict_has_its_word_and_its_exit_status() {
        let shown = claim(Verdict::Shown("nothing was found".to_owned()));
        let not_shown = claim(Verdict::NotShown("no permission".to_owned()));
        let failed = claim(Verdict::Failed("a payload".to_owned()));
        assert_eq!(shown.line(), "shown      log: the log holds no audio: nothing was found. Tested by searching it.");
        assert!(not_shown.line().starts_with("not shown  log") && failed.line().starts_with("FAILED     log"));
        assert_eq!(verdict(std::slice::from_ref(&shown)), Ok(()));
        assert_eq!(verdict(&[shown.clone(), not_shown.clone()]).unwrap_err().code(), 69);
        assert_eq!(verdict(&[shown.clone(), not_shown.clone(), failed.clone()]).unwrap_err().code(), 70);
        let text_of = |settings| text(settings, &[shown.clone(), failed.clone()]);
        let text = text_of(None);
        assert!(text_of(Some("Taken: all.")).starts_with("Taken: all.\n\nshown "));
        assert!(text.lines().count() == 4 && text.ends_with(&format!("{OUT_OF_REACH}\n")), "{text}");
        let json: serde_json::Value = serde_json::from_str(&json(Some("all"), &[shown, not_shown, failed])).unwrap();
        assert_eq!(json["settings"], "all");
        let verdicts: Vec<_> = json["claims"].as_array().unwrap().iter().map(|claim| &claim["verdict"]).collect();
        assert_eq!(verdicts, ["shown", "not-shown", "failed"]);
        assert_eq!(json["claims"][2]["seen"], "a payload");
    }
}
