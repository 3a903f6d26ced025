//! The B2BUA: every call, the only place where signalling and media meet.

mod abuse;
mod admission;
mod branches;
#[expect(clippy::module_inception, reason = "the call is what the call floor is about")]
mod call;
mod capacity;
pub mod cdr;
mod context;
mod core;
mod credentials;
mod diversion;
pub mod dry_run;
mod early;
mod early_dialogs;
mod early_update;
mod emergency_call;
mod ending;
mod failover;
mod flows;
mod fork;
mod handover;
mod hunt;
mod identity;
mod in_dialog;
mod inspection;
mod interface;
mod keep_alive;
mod late_offer;
mod leg;
mod message;
mod notification;
mod open_cdr;
mod outgoing;
mod overload;
mod passed_headers;
mod pbx;
mod provisional;
pub mod quality_totals;
mod received_history;
mod refer;
mod reflection;
mod refusal_tone;
mod resync;
mod session_timer;
mod signature;
mod subscription;
#[cfg(test)]
mod tests;
mod trunk_pings;
mod trunk_registrations;
mod trunks;
mod update;
mod usage;
mod verification;

pub use capacity::{Rejection, WorkerLoads};
pub use cdr::Cdr;
pub use core::Core;
pub use interface::{
    BarredView, CallDetail, CallView, CertificateReply, Counters, DeviceSync, EmergencyState, Input, InspectionRefusal,
    LegDetail, LineView, Output, RegistrationView, ServerView, Setup, SetupTimes, SilenceView, Standing, SyncOutcome,
    SyncRefusal, TestCall, TestRefusal, TrunkView, WebRequest, WebUser, Which,
};
pub use notification::Notice;
