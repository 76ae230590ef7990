//! `vitrine model check`.

use std::env;

use anyhow::{Context as _, ensure};
use vitrine_clip::{Execution, Precision, Runtime, check};

use crate::cli::CheckArguments;

/// Tries a model and prints what was found.
///
/// # Errors
/// When it cannot be loaded, or would answer wrongly.
#[expect(clippy::print_stdout, reason = "the report is this command's output")]
pub fn check_model(arguments: &CheckArguments) -> anyhow::Result<()> {
    let executable = env::current_exe().context("find this program")?;
    let runtime = Runtime::load(arguments.ort_dylib_path.as_deref(), &executable)?;
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let bf16 = arguments.precision == Precision::Bf16;
    let execution = Execution { provider: arguments.execution_provider, threads, bf16 };
    let report = check(&runtime, &arguments.folder, arguments.precision, execution)?;
    print!("{report}");
    ensure!(report.can_serve(), "{} cannot serve", arguments.folder.display());
    Ok(())
}
