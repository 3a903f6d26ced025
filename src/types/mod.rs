//! Values every floor shares: identifiers, time, secrets, limits and named reasons.

pub mod certificate;
pub mod flow;
pub mod histogram;
pub mod id;
pub mod limits;
pub mod reason;
pub mod rng;
pub mod secret;
pub mod time;

pub use flow::{ConnectionId, Flow, FlowKey, Transport};
pub use id::{CallId, LegId, TxnId};
pub use reason::DropReason;
pub use rng::Rng;
pub use secret::{Private, Secret};
pub use time::{Duration, Instant};
