//! `ringdown selftest`: no configuration, no log; its lines are the output.

use crate::shell::{failure::Failure, selftest};

use super::run::{End, runtime};

pub(super) fn run() -> Result<(), Failure> {
    let runtime = runtime()?;
    let result = runtime.block_on(async {
        let mut end = End::listen()?;
        selftest::run(&mut |text| super::print(text), end.asked()).await
    });
    // An interrupted test does not wait for media threads that still listen.
    runtime.shutdown_background();
    result
}
