//! `ringdown prove`: no log; its lines are the output.

use std::{num::NonZero, path::Path, thread::available_parallelism};

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

/// `config_file`: only if the operator has named one.
pub(super) fn run(config_file: Option<&Path>, options: &Options) -> Result<(), Failure> {
    let own = config_file.map(|file| super::load(file).map(|settings| (file, settings))).transpose()?;
    let runtime = runtime(available_parallelism().unwrap_or(NonZero::<usize>::MIN))?;
    let format = match options.format {
        Form::Text => Format::Text,
        Form::Json => Format::Json,
    };
    runtime.block_on(async {
        let mut end = End::listen()?;
        let own = own.as_ref().map(|(file, settings)| (*file, settings));
        prove::run(format, own, &mut |text| super::print(text), end.asked()).await
    })
}
