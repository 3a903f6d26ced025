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
     machine beneath it (a hypervisor); the phones; and, while a packet is on its way, the payload of plain RTP legs and of \
     legs with AES-GCM, and RTCP of any leg, which pass through the server's memory. Not covered: calls with a plain leg, hold, transfers and AF_XDP; what a media thread \
     that was taken over could do by way of the memory that threads share, the index of the database's log (ringdown.db-shm), which is \
     mapped, included; and another configuration than this one: `ringdown check` says what your machine and limits grant.";

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

pub(super) fn text(claims: &[Claim]) -> String {
    let mut out = String::new();
    for claim in claims {
        writeln!(out, "{}", claim.line()).expect("strings take everything");
    }
    writeln!(out, "\n{OUT_OF_REACH}").expect("strings take everything");
    out
}

pub(super) fn json(claims: &[Claim]) -> String {
    #[derive(Serialize)]
    struct Report<'a> {
        claims: &'a [Claim],
        out_of_reach: &'a str,
    }
    let report = Report { claims, out_of_reach: OUT_OF_REACH };
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
    fn every_verdict_has_its_word_and_its_exit_status() {
        let shown = claim(Verdict::Shown("nothing was found".to_owned()));
        let not_shown = claim(Verdict::NotShown("no permission".to_owned()));
        let failed = claim(Verdict::Failed("a payload".to_owned()));
        assert_eq!(shown.line(), "shown      log: the log holds no audio: nothing was found. Tested by searching it.");
        assert!(not_shown.line().starts_with("not shown  log") && failed.line().starts_with("FAILED     log"));
        assert_eq!(verdict(std::slice::from_ref(&shown)), Ok(()));
        assert_eq!(verdict(&[shown.clone(), not_shown.clone()]).unwrap_err().code(), 69);
        assert_eq!(verdict(&[shown.clone(), not_shown.clone(), failed.clone()]).unwrap_err().code(), 70);
        let text = text(&[shown.clone(), failed.clone()]);
        assert!(text.lines().count() == 4 && text.ends_with(&format!("{OUT_OF_REACH}\n")), "{text}");
        let json: serde_json::Value = serde_json::from_str(&json(&[shown, not_shown, failed])).unwrap();
        let verdicts: Vec<_> = json["claims"].as_array().unwrap().iter().map(|claim| &claim["verdict"]).collect();
        assert_eq!(verdicts, ["shown", "not-shown", "failed"]);
        assert_eq!(json["claims"][2]["seen"], "a payload");
    }
}
