//! `vitrine`: visual product search.

use std::{env, process::ExitCode};

use clap::{Parser as _, error::ErrorKind};
use tikv_jemallocator::Jemalloc;
use vitrine_core::Chain;
use vitrine_server::{
    check_model,
    cli::{Cli, Command, ModelCommand},
    look_after_index, plan, search,
    serve::serve,
    settings::{EXIT_WRONG_SETTINGS, Settings},
    telemetry,
};

/// Qdrant copies the values of a filter, one allocation each: a search with 10,000 of them takes 0.7 of the time that it takes with the
/// C library's allocator.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            drop(error.print());
            let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            return if asked { ExitCode::SUCCESS } else { ExitCode::from(EXIT_WRONG_SETTINGS) };
        }
    };
    if !matches!(cli.command, Command::Serve(_)) {
        // Who reads only the first lines of an answer ends it, without a panic.
        sigpipe::reset();
    }
    let settings = |flags| {
        // A name that is not UTF-8 is none of ours; a value that is not is shown as well as it can be.
        let variables = env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.to_string_lossy().into_owned())));
        Settings::load(flags, variables)
    };
    let outcome = match cli.command {
        Command::Serve(flags) => match settings(&flags) {
            Ok(settings) => {
                telemetry::start(settings.log_format(), settings.log_filter());
                serve(settings)
            }
            Err(errors) => {
                eprintln!("{errors}");
                return ExitCode::from(EXIT_WRONG_SETTINGS);
            }
        },
        Command::Index(arguments) => match settings(&arguments.place.to_flags()) {
            Ok(settings) => {
                telemetry::start(settings.log_format(), &settings.log_filter().for_commands());
                return match look_after_index(&arguments, &settings) {
                    Ok(()) => ExitCode::SUCCESS,
                    Err(error) => {
                        eprintln!("error: {}", Chain(&error));
                        ExitCode::from(error.exit_code())
                    }
                };
            }
            Err(errors) => {
                eprintln!("{errors}");
                return ExitCode::from(EXIT_WRONG_SETTINGS);
            }
        },
        Command::Plan(arguments) => {
            plan(&arguments);
            Ok(())
        }
        Command::Search(arguments) => search(&arguments),
        Command::Model(ModelCommand::Check(arguments)) => check_model(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
