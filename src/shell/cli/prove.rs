//! `ringdown prove`: no configuration, no log; its lines are the output.

use std::{num::NonZero, thread::available_parallelism};

use clap::{Args, ValueEnum};

use crate::shell::{
    failure::Failure,
    prove::{self, Format},
};

use super::run::{End, runtime};

#[derive(Debug, Args)]
pub(super) struct Options {
    /// One line for each claim, or one JSON object for all.
    #[arg(long, value_enum, default_value_t = Form::Text)]
    format: Form,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Form {
    Text,
    Json,
}

pub(super) fn run(options: &Options) -> Result<(), Failure> {
    let runtime = runtime(available_parallelism().unwrap_or(NonZero::<usize>::MIN))?;
    let format = match options.format {
        Form::Text => Format::Text,
        Form::Json => Format::Json,
    };
    runtime.block_on(async {
        let mut end = End::listen()?;
        prove::run(format, &mut |text| super::print(text), end.asked()).await
    })
}
