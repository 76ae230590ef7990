//! `catalog-loader`: a product feed into the index.

#![expect(clippy::print_stdout, reason = "the summary is this program's output")]

use std::{env, process::ExitCode};

use catalog_loader::{cli::Arguments, run};
use clap::{Parser as _, error::ErrorKind};
use tikv_jemallocator::Jemalloc;
use tracing_subscriber::EnvFilter;
use vitrine_core::Chain;
use vitrine_index::ApiKey;

/// Adding products and building their graphs takes a twentieth less processor time with it than with the C library's allocator.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

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
    let filter = match log_filter() {
        Ok(filter) => filter,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(EXIT_WRONG_ARGUMENTS);
        }
    };
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let api_key = match api_key() {
        Ok(api_key) => api_key,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(EXIT_WRONG_ARGUMENTS);
        }
    };
    match run(&arguments, api_key) {
        Ok(summary) => {
            println!("{summary}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {}", Chain(&error));
            ExitCode::from(error.exit_code())
        }
    }
}

/// The key of the index's server. Not an argument: those are there for everybody to see.
fn api_key() -> Result<Option<ApiKey>, String> {
    let Some(written) = env::var_os("VITRINE_INDEX_API_KEY").filter(|key| !key.is_empty()) else { return Ok(None) };
    let key = written.to_string_lossy().parse();
    key.map(Some).map_err(|problem: &str| format!("`VITRINE_INDEX_API_KEY` {problem}"))
}

/// What `RUST_LOG` chooses to be in the log; default: errors, and what the index and the embedding pool warn of.
fn log_filter() -> Result<EnvFilter, String> {
    let Some(written) = env::var_os("RUST_LOG") else {
        return Ok(EnvFilter::new("error,vitrine_index=warn,vitrine_remote=warn"));
    };
    let written = written.to_string_lossy();
    EnvFilter::builder().parse(&written).map_err(|problem| format!("`RUST_LOG` is `{written}`: {problem}"))
}
