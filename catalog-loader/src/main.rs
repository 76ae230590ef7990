//! `catalog-loader`: a product feed into the index.

#![expect(clippy::print_stdout, reason = "the summary is this program's output")]

use std::process::ExitCode;

use catalog_loader::{cli::Arguments, run};
use clap::{Parser as _, error::ErrorKind};
use tracing_subscriber::EnvFilter;

/// `EX_USAGE` of sysexits.h.
const EXIT_WRONG_ARGUMENTS: u8 = 64;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            drop(error.print());
            let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            return if asked { ExitCode::SUCCESS } else { ExitCode::from(EXIT_WRONG_ARGUMENTS) };
        }
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("error,vitrine_index=warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    match run(&arguments) {
        Ok(summary) => {
            println!("{summary}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}
