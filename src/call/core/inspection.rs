//! A live call with what its media legs report now. The asking is `call::inspection`'s.

use super::{
    super::{
        context::Side,
        inspection::Inspected,
        interface::{InspectionRefusal, Output},
    },
    Core,
};
use crate::media;

impl Core {
    /// `call`: the identifier of its record.
    pub(super) fn inspect(&mut self, id: u64, call: &str) {
        let Some(call) = self.calls.values().find(|live| live.is_live() && live.cdr.id == call) else {
            return self.ctx.outputs.push_back(Output::Inspected { id, result: Err(InspectionRefusal::NoSuchCall) });
        };
        let (number, legs) = (call.id, call.media_legs());
        let complete = self.inspections.begin(&mut self.ctx, id, number, legs);
        self.show(complete);
    }

    /// What an event of a leg adds to the looks at its call.
    pub(super) fn leg_reported(&mut self, side: Side, event: &media::Event) {
        let report = match event {
            media::Event::Report { report, .. } => Some(&**report),
            media::Event::Closed { .. } => None,
            media::Event::OpenFailed { .. }
            | media::Event::Overrun { .. }
            | media::Event::Flowing { .. }
            | media::Event::Silent { .. }
            | media::Event::Heard { .. }
            | media::Event::Load { .. } => return,
        };
        let Some(leg) = event.leg() else { return };
        let complete = self.inspections.reported(leg, side, report);
        self.show(complete);
    }

    fn show(&mut self, complete: impl IntoIterator<Item = Inspected>) {
        for inspected in complete {
            let call = self.calls.get(&inspected.call).filter(|call| call.is_live());
            let detail = call.map(|call| call.detail(&inspected.reports));
            inspected.answer(&mut self.ctx, detail);
        }
    }
}
