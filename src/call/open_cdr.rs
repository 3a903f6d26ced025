//! The record of a call that goes on: what a crash leaves of it.
//!
//! The store has it from the call's beginning, once more when it is answered, and until the call's own record takes its place.
//! Nobody is told of an answer before the beginning is on disk, so no call that anybody has seen answered is without a record. A telephone
//! that somebody must pick up first rings longer than that takes. Emergency calls, and answering points that call back, wait for
//! no disk.

use super::{
    call::{Call, State},
    interface::Output,
};

/// What of a call the store has been given.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct OpenCdr {
    is_begun: bool,
    is_on_disk: bool,
    has_answer: bool,
}

impl Call {
    /// What the store is to be told now, if anything.
    pub(super) fn open_cdr_output(&mut self) -> Option<Output> {
        let is_answered = self.cdr.answer_ms.is_some();
        if !self.is_live() || (self.state == State::Ended && !is_answered) {
            return None;
        }
        let told = self.open_cdr;
        (self.open_cdr.is_begun, self.open_cdr.has_answer) = (true, is_answered);
        let cdr = || Box::new(self.cdr.clone());
        match told {
            OpenCdr { is_begun: false, .. } => Some(Output::OpenCdr { call: self.id, cdr: cdr() }),
            OpenCdr { has_answer: false, .. } if is_answered => Some(Output::UpdateCdr(cdr())),
            OpenCdr { .. } => None,
        }
    }

    /// Whether anybody may be told that this call is answered.
    pub(super) fn may_be_answered(&self) -> bool {
        self.open_cdr.is_on_disk || self.is_urgent()
    }

    /// The record is on disk. `true`: the call has waited for that.
    pub(super) fn note_cdr_opened(&mut self) -> bool {
        let may_have_waited = !self.may_be_answered();
        self.open_cdr.is_on_disk = true;
        may_have_waited && (self.provisionals.has_held() || self.transfer.is_some())
    }
}
