//! The end of the server: calls that are still live then are ended, instead of falling silent.

use super::{
    super::{call::Call, interface::Which},
    Core,
};
use crate::types::CallId;

impl Core {
    pub(super) fn end_calls(&mut self, which: Which) {
        self.refusal_tones.end_all(&mut self.ctx);
        let is_meant = |call: &Call| call.is_live() && (which == Which::All || !call.is_urgent());
        let meant: Vec<CallId> = self.calls.values().filter(|call| is_meant(call)).map(|call| call.id).collect();
        for id in meant {
            self.with_call(id, Call::shut_down);
        }
    }

    /// Calls that are live or whose last requests have no answer yet.
    pub fn open_calls(&self) -> usize {
        self.calls.len()
    }
}
