//! Looks at the media of live calls: their workers are asked how each leg does, and the answers are put together.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    context::{Context, Side},
    interface::{CallDetail, InspectionRefusal, Output},
};
use crate::{
    media::{Command, LegReport},
    types::{CallId, LegId},
};

/// Which workers have been asked and have not answered.
#[derive(Debug)]
pub(super) struct Inspections {
    /// By the number that the answer bears.
    open: BTreeMap<u64, Inspection>,
    inspections_max: usize,
}

#[derive(Debug)]
struct Inspection {
    call: CallId,
    waiting: BTreeSet<LegId>,
    reports: Vec<(Side, LegReport)>,
}

/// An inspection that is complete.
pub(super) struct Inspected {
    id: u64,
    pub call: CallId,
    pub reports: Vec<(Side, LegReport)>,
}

impl Inspections {
    /// `inspections_max`: one more is refused.
    pub(super) const fn new(inspections_max: usize) -> Self {
        Self { open: BTreeMap::new(), inspections_max }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Asks for the reports of all `legs` of a call. Complete at once where there are none.
    pub(super) fn begin(
        &mut self,
        ctx: &mut Context,
        id: u64,
        call: CallId,
        legs: BTreeSet<LegId>,
    ) -> Option<Inspected> {
        if legs.is_empty() {
            return Some(Inspected { id, call, reports: Vec::new() });
        }
        if self.open.len() >= self.inspections_max {
            ctx.outputs.push_back(Output::Inspected { id, result: Err(InspectionRefusal::TooMany) });
            return None;
        }
        for leg in &legs {
            ctx.command(*leg, Command::Report { leg: *leg });
        }
        self.open.insert(id, Inspection { call, waiting: legs, reports: Vec::new() });
        None
    }

    /// A leg of `side` has reported, or (`None`) is closed and in its record already. Returns what is complete now.
    pub(super) fn reported(&mut self, leg: LegId, side: Side, report: Option<&LegReport>) -> Vec<Inspected> {
        for inspection in self.open.values_mut() {
            if inspection.waiting.remove(&leg) {
                inspection.reports.extend(report.map(|report| (side, report.clone())));
            }
        }
        let complete = self.open.extract_if(.., |_, inspection| inspection.waiting.is_empty());
        complete.map(|(id, Inspection { call, reports, .. })| Inspected { id, call, reports }).collect()
    }
}

impl Inspected {
    /// `None`: the call is over.
    pub(super) fn answer(self, ctx: &mut Context, detail: Option<CallDetail>) {
        let result = detail.map(Box::new).ok_or(InspectionRefusal::NoSuchCall);
        ctx.outputs.push_back(Output::Inspected { id: self.id, result });
    }
}
