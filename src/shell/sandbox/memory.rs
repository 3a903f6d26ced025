//! The process's memory: no image of it is made, and none of it is swapped out.

use rustix::{
    io::Errno,
    mm::{MlockAllFlags, mlockall},
    process::{DumpableBehavior, Resource, Rlimit, dumpable_behavior, getrlimit, set_dumpable_behavior, setrlimit},
    thread::{CapabilitySet, capabilities},
};

use super::{Measure, Missing};

/// No core dump, neither as a file nor to a collector: the latter ignores the limit, but not that the process is not
/// dumpable (core(5)). The same keeps processes of the same user from attaching and from reading `/proc/PID/mem`
/// (ptrace(2)).
pub(super) fn forbid_dumps() -> Result<(), Missing> {
    let missing = |cause: String| Missing {
        measure: Measure::Dumps,
        cause,
        remedy: "Whatever filters system calls here (a container's seccomp profile) must allow prctl",
    };
    let zero = Rlimit { current: Some(0), maximum: Some(0) };
    setrlimit(Resource::Core, zero).map_err(|e| missing(format!("core dumps cannot be limited: {e}")))?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(|e| missing(format!("the process cannot be made undumpable: {e}")))?;
    match dumpable_behavior() {
        Ok(DumpableBehavior::NotDumpable) => Ok(()),
        Ok(_) | Err(_) => Err(missing("the process stays dumpable".to_owned())),
    }
}

/// Locks what the process has and what it will have, each page once it is used.
///
/// Under a finite limit the lock would succeed at first and a later allocation fail, with a call in it; so that counts
/// as missing, too.
pub(super) fn lock() -> Result<(), Missing> {
    let missing = |cause: String| Missing {
        measure: Measure::Memory,
        cause,
        remedy: "Lift the limit (LimitMEMLOCK=infinity in a systemd unit, `ulimit -l unlimited` in a shell, \
                 --ulimit memlock=-1 for a container) or grant CAP_IPC_LOCK",
    };
    if !has_no_limit() {
        let limit = getrlimit(Resource::Memlock).current.map_or(0, |bytes| bytes / 1024);
        return Err(missing(format!("the memory cannot be locked: RLIMIT_MEMLOCK allows {limit} KiB only")));
    }
    match mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT) {
        Ok(()) => Ok(()),
        Err(Errno::NOSYS) => Err(missing("the memory cannot be locked: mlockall is filtered out".to_owned())),
        Err(error) => Err(missing(format!("the memory cannot be locked: {error}"))),
    }
}

/// As far as it may, it lifts the limit itself.
fn has_no_limit() -> bool {
    let none = Rlimit { current: None, maximum: None };
    let soft = Rlimit { current: getrlimit(Resource::Memlock).maximum, ..getrlimit(Resource::Memlock) };
    let _ = setrlimit(Resource::Memlock, none).or_else(|_| setrlimit(Resource::Memlock, soft));
    let is_privileged = capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::IPC_LOCK));
    is_privileged || getrlimit(Resource::Memlock).current.is_none()
}
