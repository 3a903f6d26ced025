//! What a subscriber is shown: the state of one user in one event package, and the document that tells it.

use crate::wire::{
    dialog_info::{self, Dialog, State},
    message_summary::MessageSummary,
    reg_info,
};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::call) enum Snapshot {
    /// Ordered by id.
    Dialogs(Vec<Dialog>),
    /// `None` until the mailbox has said something.
    Summary(Option<MessageSummary>),
    /// URIs of the registered contacts.
    Contacts(Vec<String>),
}

impl Snapshot {
    /// The body that brings somebody who was shown `earlier` up to date; with nothing shown yet, the full state. `None`:
    /// nothing is known.
    pub(super) fn document(&self, earlier: Option<&Self>, version: u32, entity: &str) -> Option<String> {
        match self {
            Self::Dialogs(now) => {
                let changed = match earlier {
                    Some(Self::Dialogs(earlier)) => Some(changes(earlier, now)),
                    Some(Self::Summary(_) | Self::Contacts(_)) | None => None,
                };
                let is_full = changed.is_none();
                let dialogs = changed.as_deref().unwrap_or(now);
                Some(dialog_info::Document { entity, version, is_full, dialogs }.to_string())
            }
            Self::Summary(summary) => summary.as_ref().map(MessageSummary::to_string),
            Self::Contacts(contacts) => Some(reg_info::Document { aor: entity, version, contacts }.to_string()),
        }
    }
}

/// Dialogs that are new, have another state, or are gone.
fn changes(earlier: &[Dialog], now: &[Dialog]) -> Vec<Dialog> {
    let is_gone = |dialog: &&Dialog| now.iter().all(|other| other.id != dialog.id);
    let gone = earlier.iter().filter(is_gone).map(|dialog| Dialog { state: State::Terminated, ..dialog.clone() });
    gone.chain(now.iter().filter(|dialog| !earlier.contains(dialog)).cloned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::dialog_info::Direction;

    fn dialog(id: &str, state: State) -> Dialog {
        Dialog { id: id.to_owned(), direction: Direction::Recipient, state, names: None }
    }

    #[test]
    fn only_what_changed_is_told_and_what_is_gone_is_terminated() {
        let earlier = [dialog("1", State::Early), dialog("2", State::Confirmed), dialog("3", State::Early)];
        let now = [dialog("2", State::Confirmed), dialog("3", State::Confirmed), dialog("4", State::Early)];
        let told = [dialog("1", State::Terminated), dialog("3", State::Confirmed), dialog("4", State::Early)];
        assert_eq!(changes(&earlier, &now), told);
        assert_eq!(changes(&now, &now), []);
    }

    #[test]
    fn the_first_document_is_full_and_later_ones_are_not() {
        let ringing = Snapshot::Dialogs(vec![dialog("1", State::Early)]);
        let idle = Snapshot::Dialogs(Vec::new());
        let first = idle.document(None, 0, "sip:a@b").unwrap();
        assert!(first.contains("version=\"0\" state=\"full\"") && !first.contains("<dialog "));
        let next = ringing.document(Some(&idle), 1, "sip:a@b").unwrap();
        assert!(next.contains("version=\"1\" state=\"partial\"") && next.contains("early"));
        assert_eq!(Snapshot::Summary(None).document(None, 0, ""), None);
    }
}
