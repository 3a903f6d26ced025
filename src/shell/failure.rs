//! Why the process ends: one message for the operator, one exit status for its supervisor (`sysexits.h`).

use std::{fmt, process::ExitCode};

/// A command that cannot go on. The text is complete: what failed, with the value, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The operator's input is wrong: exit 64.
    Usage(String),
    /// A port, address or lock is taken: exit 69.
    Unavailable(String),
    /// A broken promise of our own: exit 70.
    Internal(String),
    /// The database or the state folder cannot be used: exit 74.
    Store(String),
}

impl Failure {
    pub const fn code(&self) -> u8 {
        match self {
            Self::Usage(_) => 64,
            Self::Unavailable(_) => 69,
            Self::Internal(_) => 70,
            Self::Store(_) => 74,
        }
    }

    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.code())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Usage(text) | Self::Unavailable(text) | Self::Internal(text) | Self::Store(text)) = self;
        f.write_str(text)
    }
}

impl std::error::Error for Failure {}
