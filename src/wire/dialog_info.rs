//! Documents of the dialog event package (RFC 4235): which calls a user has. No remote party stands in them. The user's own
//! other telephones are told the names of its dialogs, so that they can take one over by Replaces (RFC 3891), which is what
//! makes one line of several telephones.

use std::fmt;

use super::xml::Escaped;

/// RFC 4235 section 4.1.2, `direction`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Initiator,
    Recipient,
}

/// RFC 4235 section 3.7.1, of which only these are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Early,
    Confirmed,
    Terminated,
}

/// One dialog of the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dialog {
    /// The same in every document of one subscription.
    pub id: String,
    pub direction: Direction,
    pub state: State,
    /// `None`: not for this watcher.
    pub names: Option<Names>,
}

/// What names a dialog, as the telephone that is in it sees it (RFC 4235 section 4.1.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    pub call_id: String,
    pub local_tag: String,
    pub remote_tag: String,
}

/// One document, printed with `Display`.
#[derive(Clone, Copy, Debug)]
pub struct Document<'a> {
    /// URI of the user.
    pub entity: &'a str,
    /// Counts the documents of one subscription from 0.
    pub version: u32,
    /// Holds every dialog there is; otherwise those that changed.
    pub is_full: bool,
    pub dialogs: &'a [Dialog],
}

pub const CONTENT_TYPE: &str = "application/dialog-info+xml";

impl Direction {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Initiator => "initiator",
            Self::Recipient => "recipient",
        }
    }
}

impl State {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Early => "early",
            Self::Confirmed => "confirmed",
            Self::Terminated => "terminated",
        }
    }
}

impl fmt::Display for Document<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = if self.is_full { "full" } else { "partial" };
        write!(
            f,
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\r\n<dialog-info xmlns=\"urn:ietf:params:xml:ns:dialog-info\" \
             version=\"{}\" state=\"{state}\" entity=\"{}\">\r\n",
            self.version,
            Escaped(self.entity)
        )?;
        for Dialog { id, direction, state, names } in self.dialogs {
            write!(f, "  <dialog id=\"{}\"", Escaped(id))?;
            if let Some(Names { call_id, local_tag, remote_tag }) = names {
                let (call_id, local, remote) = (Escaped(call_id), Escaped(local_tag), Escaped(remote_tag));
                write!(f, " call-id=\"{call_id}\" local-tag=\"{local}\" remote-tag=\"{remote}\"")?;
            }
            let (direction, state) = (direction.as_str(), state.as_str());
            write!(f, " direction=\"{direction}\">\r\n    <state>{state}</state>\r\n  </dialog>\r\n")?;
        }
        f.write_str("</dialog-info>\r\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_printed_line_by_line() {
        let names = Names { call_id: "c&1".into(), local_tag: "l".into(), remote_tag: "r".into() };
        let dialogs = [
            Dialog { id: "1-a".into(), direction: Direction::Initiator, state: State::Confirmed, names: Some(names) },
            Dialog { id: "2-0".into(), direction: Direction::Recipient, state: State::Terminated, names: None },
        ];
        let document = Document { entity: "sip:a&b@example.com", version: 7, is_full: false, dialogs: &dialogs };
        let expected = r#"<?xml version="1.0" encoding="UTF-8"?>
<dialog-info xmlns="urn:ietf:params:xml:ns:dialog-info" version="7" state="partial" entity="sip:a&amp;b@example.com">
  <dialog id="1-a" call-id="c&amp;1" local-tag="l" remote-tag="r" direction="initiator">
    <state>confirmed</state>
  </dialog>
  <dialog id="2-0" direction="recipient">
    <state>terminated</state>
  </dialog>
</dialog-info>
"#;
        assert_eq!(document.to_string(), expected.replace('\n', "\r\n"));
        let idle = Document { is_full: true, dialogs: &[], ..document }.to_string();
        assert!(idle.contains("state=\"full\"") && !idle.contains("<dialog "));
    }
}
