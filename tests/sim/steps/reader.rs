//! Step files as text: one step a line, what belongs to it indented below. Every mistake is found before anything is
//! played, and named with file and line.

use std::{collections::BTreeSet, fmt::Write, time::Duration};

use super::forms::{Below, FORMS, Form};

/// How long a step waits for what it expects, unless it says `within`.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) struct Step {
    pub(super) line: usize,
    pub(super) text: String,
    pub(super) form: &'static Form,
    pub(super) args: Args,
}

/// What a line says in the places of its form's capital words.
#[derive(Debug, PartialEq)]
pub(super) struct Args {
    words: Vec<String>,
    pub(super) checks: Vec<Check>,
    /// Lines of configuration.
    pub(super) toml: String,
    pub(super) limit: Duration,
}

impl Args {
    pub(super) fn text(&self, index: usize) -> &str {
        &self.words[index]
    }

    pub(super) fn words(&self) -> &[String] {
        &self.words
    }

    pub(super) fn number(&self, index: usize) -> u32 {
        self.words[index].trim_end_matches('%').parse().expect("it was read as a number")
    }

    pub(super) fn time(&self, index: usize) -> Duration {
        time(&self.words[index]).expect("it was read as a time")
    }
}

/// `with Priority: emergency`: what must or must not stand in a message or record.
#[derive(Debug, PartialEq)]
pub(super) struct Check {
    pub(super) is_wanted: bool,
    /// In small letters.
    pub(super) name: String,
    /// Part of the value; empty: anything.
    pub(super) value: String,
}

/// Every step of a file, or every mistake in it.
pub(super) fn read(file: &str, text: &str) -> Result<Vec<Step>, Vec<String>> {
    let mut steps: Vec<Step> = Vec::new();
    let mut phones = BTreeSet::new();
    let mut errors = Vec::new();
    for (line, text) in (1..).zip(text.lines()) {
        let is_below = text.starts_with([' ', '\t']);
        let text = text.trim();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        let result = if is_below {
            attach(steps.last_mut(), text)
        } else {
            step(line, text, &mut phones).map(|step| steps.push(step))
        };
        errors.extend(result.err().map(|why| format!("{file}:{line}: {why}")));
    }
    if errors.is_empty() { Ok(steps) } else { Err(errors) }
}

fn step(line: usize, text: &str, phones: &mut BTreeSet<String>) -> Result<Step, String> {
    let mut words: Vec<&str> = text.split_whitespace().collect();
    let mut limit = None;
    if let [.., "within", last] = words[..] {
        limit = Some(time(last).ok_or_else(|| wrong(last, "TIME"))?);
        words.truncate(words.len() - 2);
    }
    let mut misfit = None;
    for form in FORMS {
        let Some(found) = form.fits(&words) else { continue };
        if let Some((kind, word)) = found.iter().find(|(kind, word)| !is_a(kind, word, phones)) {
            misfit.get_or_insert_with(|| wrong(word, kind));
            continue;
        }
        if limit.is_some() && !form.waits {
            return Err(format!("`{}` does not wait: no `within`", form.pattern));
        }
        phones.extend(found.iter().filter(|(kind, _)| *kind == "NEW").map(|(_, word)| word.clone()));
        let words = found.into_iter().map(|(_, word)| word).collect();
        let args = Args { words, checks: Vec::new(), toml: String::new(), limit: limit.unwrap_or(PATIENCE) };
        return Ok(Step { line, text: text.to_owned(), form, args });
    }
    Err(misfit.unwrap_or_else(|| unknown(text)))
}

/// A line that stands indented below a step.
fn attach(step: Option<&mut Step>, text: &str) -> Result<(), String> {
    let step = step.ok_or("an indented line belongs to the step above it, and there is none")?;
    match step.form.below {
        Below::Nothing => Err(format!("nothing can stand indented below `{}`", step.form.pattern)),
        Below::Toml => {
            step.args.toml += text;
            step.args.toml.push('\n');
            Ok(())
        }
        Below::Checks => {
            let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
            let is_wanted = match word {
                "with" => true,
                "without" => false,
                _ => return Err(format!("`{text}`: wanted `with NAME`, `with NAME: TEXT` or the same with `without`")),
            };
            let (name, value) = rest.split_once(':').unwrap_or((rest, ""));
            let (name, value) = (name.trim().to_ascii_lowercase(), value.trim().to_owned());
            step.args.checks.push(Check { is_wanted, name, value });
            Ok(())
        }
    }
}

/// Whether a word can stand where a form has this capital word.
fn is_a(kind: &str, word: &str, phones: &BTreeSet<String>) -> bool {
    match kind {
        "PHONE" => phones.contains(word),
        "NEW" => word.starts_with(|c: char| c.is_ascii_lowercase()) && !phones.contains(word),
        "EXTENSION" => matches!(word.parse::<u32>(), Ok(1001..=1009)),
        "TRANSPORT" => matches!(word, "udp" | "tcp" | "tls"),
        "TIME" => time(word).is_some(),
        "STATUS" => matches!(word.parse::<u16>(), Ok(300..=699)),
        "COUNT" => matches!(word.parse::<u32>(), Ok(1..=1000)),
        "PERCENT" => word.strip_suffix('%').and_then(|n| n.parse::<u32>().ok()).is_some_and(|n| n <= 100),
        "KEY" => word.len() == 1 && word.contains(|c: char| c.is_ascii_digit() || "*#ABCD".contains(c)),
        "METHOD" => word.chars().all(|c| c.is_ascii_uppercase()),
        "MESSAGE" => word.chars().all(|c| c.is_ascii_uppercase()) || matches!(word.parse::<u16>(), Ok(100..=699)),
        "NUMBER" | "EVENT" | "TEXT" => !word.is_empty(),
        _ => unreachable!("a form has no place for {kind}"),
    }
}

fn wrong(word: &str, kind: &str) -> String {
    let meaning = match kind {
        "PHONE" => "no phone or trunk that an earlier line has named",
        "NEW" => "no new name: a small letter first, and not taken",
        "EXTENSION" => "no extension: 1001 to 1009",
        "TRANSPORT" => "no transport: udp, tcp, tls",
        "TIME" => "no time: 500ms, 30s, 2min",
        "STATUS" => "no final status: 300 to 699",
        "COUNT" => "no count: 1 to 1000",
        "PERCENT" => "no percentage: 0% to 100%",
        "KEY" => "no key: 0 to 9, *, #, A to D",
        "METHOD" => "no method: capital letters",
        "MESSAGE" => "no method in capital letters and no status",
        _ => "empty",
    };
    format!("`{word}` is {meaning}")
}

fn unknown(text: &str) -> String {
    let mut out = format!("no step reads like `{text}`. Known steps:");
    for form in FORMS {
        write!(out, "\n    {}", form.pattern).expect("a String takes everything");
    }
    out
}

/// `500ms`, `30s`, `2min`.
fn time(word: &str) -> Option<Duration> {
    let digits = word.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = word.split_at(digits);
    let number: u64 = number.parse().ok().filter(|n| *n <= 100_000)?;
    match unit {
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "min" => Some(Duration::from_secs(60 * number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        match read("x.steps", text) {
            Ok(_) => panic!("it was taken: {text}"),
            Err(errors) => errors.join("\n"),
        }
    }

    #[test]
    fn an_unknown_step_is_named_with_its_line_and_all_known_ones() {
        let error = error("phone bob 1002\n\nbob yodels\n");
        assert!(error.starts_with("x.steps:3: no step reads like `bob yodels`. Known steps:\n"), "{error}");
        assert!(FORMS.iter().all(|form| error.contains(form.pattern)));
    }

    #[test]
    fn what_does_not_fit_into_a_step_is_named() {
        let phone = "phone bob 1002\n";
        for (line, wanted) in [
            ("bab registers", "`bab` is no phone or trunk that an earlier line has named"),
            ("phone bob 1003", "`bob` is no new name: a small letter first, and not taken"),
            ("phone eve 1010", "`1010` is no extension: 1001 to 1009"),
            ("phone eve 1003 over ip", "`ip` is no transport: udp, tcp, tls"),
            ("wait 3", "`3` is no time: 500ms, 30s, 2min"),
            ("wait 3h", "`3h` is no time: 500ms, 30s, 2min"),
            ("bob rings within soon", "`soon` is no time: 500ms, 30s, 2min"),
            ("bob refuses with 200", "`200` is no final status: 300 to 699"),
            ("bob turns to call 0", "`0` is no count: 1 to 1000"),
            ("network loses 101%", "`101%` is no percentage: 0% to 100%"),
            ("bob presses x", "`x` is no key: 0 to 9, *, #, A to D"),
            ("bob sends options to 1002", "`options` is no method: capital letters"),
            ("bob receives invite", "`invite` is no method in capital letters and no status"),
            ("bob holds within 3s", "`PHONE holds` does not wait: no `within`"),
            ("    with Via", "nothing can stand indented below `phone NEW EXTENSION`"),
        ] {
            assert_eq!(error(&format!("{phone}{line}\n")), format!("x.steps:2: {wanted}"));
        }
        assert!(error("  with Via\n").starts_with("x.steps:1: an indented line belongs to the step above"));
        assert!(error("phone a 1001\na receives BYE\n  has Via\n").starts_with("x.steps:3: `has Via`: wanted"));
    }

    #[test]
    fn every_mistake_of_a_file_is_told_at_once() {
        assert_eq!(error("wait 1\nwait 2\nwait 3s\n").lines().count(), 2);
    }

    #[test]
    fn steps_have_their_words_checks_and_limits() {
        let text = "# A comment.\nphone bob 1002\nbob receives INVITE within 2s\n    with Priority: emergency\n\n    \
                    without Privacy\nbob texts 1001 Lunch at 12?\n";
        let steps = read("x.steps", text).expect("it is right");
        let lines: Vec<_> = steps.iter().map(|s| (s.line, s.form.pattern)).collect();
        let patterns = [(2, "phone NEW EXTENSION"), (3, "PHONE receives MESSAGE"), (7, "PHONE texts NUMBER TEXT")];
        assert_eq!(lines, patterns);
        assert_eq!(steps[1].args.limit, Duration::from_secs(2));
        let check = |is_wanted, name: &str, value: &str| Check { is_wanted, name: name.into(), value: value.into() };
        assert_eq!(steps[1].args.checks, [check(true, "priority", "emergency"), check(false, "privacy", "")]);
        assert_eq!(steps[2].args.text(2), "Lunch at 12?");
    }

    #[test]
    fn no_text_makes_the_reader_fail() {
        use proptest::prelude::*;
        proptest!(|(text in "(( |#|with |phone |bob |calls |[a-zA-Z0-9%:\u{e9}]{1,5} ?|\n){0,40})")| {
            let _ = read("x.steps", &text);
        });
    }
}
