//! Message summaries (RFC 3842 section 5): how many messages wait in a voice mailbox elsewhere. Read into numbers and
//! written anew, so that neither the account's address nor message headers of that system pass.

use std::fmt;

/// How many messages of one kind there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    new: u32,
    old: u32,
    /// New and old urgent ones, if the mailbox tells them apart.
    urgent: Option<(u32, u32)>,
}

/// The state of one mailbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageSummary {
    is_waiting: bool,
    /// By index into [`CLASSES`].
    counts: Vec<(usize, Counts)>,
}

/// RFC 3842 section 5.2, `message-context-class`.
const CLASSES: [&str; 6] =
    ["Voice-Message", "Fax-Message", "Pager-Message", "Multimedia-Message", "Text-Message", "None"];

pub const CONTENT_TYPE: &str = "application/simple-message-summary";

impl MessageSummary {
    /// `None` without a `Messages-Waiting` line that says yes or no, or with counts that are none. Other lines are ignored.
    pub fn parse(body: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(body).ok()?;
        let mut is_waiting = None;
        let mut counts: Vec<(usize, Counts)> = Vec::new();
        for line in text.lines() {
            let Some((name, value)) = line.split_once(':') else { continue };
            let (name, value) = (name.trim(), value.trim());
            if name.eq_ignore_ascii_case("Messages-Waiting") {
                is_waiting = Some(yes_or_no(value)?);
            } else if let Some(class) = CLASSES.iter().position(|class| name.eq_ignore_ascii_case(class)) {
                counts.retain(|(earlier, _)| *earlier != class);
                counts.push((class, Counts::parse(value)?));
            }
        }
        Some(Self { is_waiting: is_waiting?, counts })
    }
}

fn yes_or_no(value: &str) -> Option<bool> {
    let is_yes = value.eq_ignore_ascii_case("yes");
    (is_yes || value.eq_ignore_ascii_case("no")).then_some(is_yes)
}

impl Counts {
    /// `new/old` or `new/old (urgent new/urgent old)`.
    fn parse(value: &str) -> Option<Self> {
        let (counts, urgent) = match value.split_once('(') {
            Some((counts, urgent)) => (counts, Some(pair(urgent.strip_suffix(')')?)?)),
            None => (value, None),
        };
        let (new, old) = pair(counts)?;
        Some(Self { new, old, urgent })
    }
}

fn pair(text: &str) -> Option<(u32, u32)> {
    let (new, old) = text.split_once('/')?;
    let number = |text: &str| {
        let text = text.trim();
        text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
    };
    Some((number(new)?, number(old)?))
}

impl fmt::Display for MessageSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Messages-Waiting: {}\r\n", if self.is_waiting { "yes" } else { "no" })?;
        for (class, Counts { new, old, urgent }) in &self.counts {
            write!(f, "{}: {new}/{old}", CLASSES[*class])?;
            if let Some((new, old)) = urgent {
                write!(f, " ({new}/{old})")?;
            }
            f.write_str("\r\n")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_pass_and_everything_else_stays_behind() {
        let body = "messages-waiting: YES\r\nMessage-Account: sip:bob@vm.example\r\nVoice-Message: 2/8 (0/2)\r\n\
                    fax-message: 1 / 0\r\n\r\nTo: <bob@vm.example>\r\nSubject: secret\r\n";
        let summary = MessageSummary::parse(body.as_bytes()).unwrap();
        let written = "Messages-Waiting: yes\r\nVoice-Message: 2/8 (0/2)\r\nFax-Message: 1/0\r\n";
        assert_eq!(summary.to_string(), written);
        assert_eq!(MessageSummary::parse(written.as_bytes()), Some(summary));
        assert_eq!(MessageSummary::parse(b"Messages-Waiting: no").unwrap().to_string(), "Messages-Waiting: no\r\n");
    }

    #[test]
    fn what_says_nothing_clear_is_refused() {
        for bad in [
            &b""[..],
            b"Voice-Message: 1/0\r\n",
            b"Messages-Waiting: maybe\r\n",
            b"Messages-Waiting: yes\r\nVoice-Message: many\r\n",
            b"Messages-Waiting: yes\r\nVoice-Message: 1/0 (1/0\r\n",
            b"Messages-Waiting: yes\r\nVoice-Message: +1/0\r\n",
            b"Messages-Waiting: yes\r\nVoice-Message: 99999999999/0\r\n",
            b"\xff",
        ] {
            assert_eq!(MessageSummary::parse(bad), None, "{}", String::from_utf8_lossy(bad));
        }
        let twice = MessageSummary::parse(b"Messages-Waiting: yes\nVoice-Message: 1/0\nVoice-Message: 3/4\n").unwrap();
        assert_eq!(twice.to_string(), "Messages-Waiting: yes\r\nVoice-Message: 3/4\r\n");
    }
}
