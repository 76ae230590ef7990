//! `loadtest`: sends searches to a running server, and says how long the answers took.

#![expect(clippy::print_stdout, reason = "the report is this program's output")]

mod ask;
mod cli;
mod connection;
mod find;
mod live;
mod measure;
mod mix;
mod record;
mod report;
mod run;
mod schedule;
mod status;
mod summary;
mod target;
mod workload;

use std::{env, process::ExitCode};

use clap::{Parser as _, error::ErrorKind};

use crate::{cli::Arguments, measure::measure, target::Target, workload::Workload};

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
    let (target, workload) = match prepare(&arguments) {
        Ok(prepared) => prepared,
        Err(problems) => {
            for problem in problems {
                eprintln!("error: {problem}");
            }
            return ExitCode::from(EXIT_WRONG_ARGUMENTS);
        }
    };
    match measure(&arguments, &target, workload, command_line()) {
        Ok(report) => {
            print!("{report}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Checks what the arguments name: every problem is found, not only the first.
fn prepare(arguments: &Arguments) -> Result<(Target, Workload), Vec<String>> {
    let target = Target::find(&arguments.server, arguments.i_may_load_this_host);
    let workload = Workload::read(arguments);
    match (target, workload) {
        (Ok(target), Ok(workload)) => Ok((target, workload)),
        (target, workload) => Err(target.err().into_iter().chain(workload.err().into_iter().flatten()).collect()),
    }
}

/// The command line as a shell would read it again.
fn command_line() -> String {
    let quote = |argument: String| {
        let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_=.,:/+@%".contains(letter);
        if !argument.is_empty() && argument.chars().all(plain) {
            argument
        } else {
            format!("'{}'", argument.replace('\'', r"'\''"))
        }
    };
    env::args_os().map(|argument| quote(argument.to_string_lossy().into_owned())).collect::<Vec<_>>().join(" ")
}
