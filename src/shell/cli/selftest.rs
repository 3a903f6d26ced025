//! `ringdown selftest`: no configuration, no log; its lines are the output.

use std::{num::NonZero, thread::available_parallelism};

use crate::shell::{failure::Failure, selftest};

use super::run::{End, runtime};

pub(super) fn run() -> Result<(), Failure> {
    let runtime = runtime(available_parallelism().unwrap_or(NonZero::<usize>::MIN))?;
    let result = runtime.block_on(async {
        let mut end = End::listen()?;
        selftest::run(&mut |text| super::print(text), end.asked()).await
    });
    // An interrupted test does not wait for media threads that still listen.
    runtime.shutdown_background();
    result
}
