//! What the process says about itself, on standard error.

use std::{io::IsTerminal as _, str::FromStr};

use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _};

/// What log lines look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object for each line.
    Json,
}

impl FromStr for LogFormat {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err("is neither text nor json"),
        }
    }
}

/// What is in the log, in the words of `RUST_LOG`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFilter(String);

impl Default for LogFilter {
    /// This project's own words, and others' errors.
    fn default() -> Self {
        let ours = ["server", "core", "clip", "index", "remote"].map(|part| format!("vitrine_{part}=info"));
        Self(format!("error,{}", ours.join(",")))
    }
}

impl LogFilter {
    /// The same for a command that ends by itself, and has output of its own: nothing of what the index does as it
    /// should, unless that was asked for.
    #[must_use]
    pub fn for_commands(&self) -> Self {
        if *self == Self::default() {
            return Self("error,vitrine_server=info,vitrine_index=warn".to_owned());
        }
        self.clone()
    }
}

impl FromStr for LogFilter {
    type Err = tracing_subscriber::filter::ParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        EnvFilter::builder().parse(text).map(|_| Self(text.to_owned()))
    }
}

/// Starts the log.
pub fn start(format: LogFormat, filter: &LogFilter) {
    let registry = tracing_subscriber::registry().with(EnvFilter::new(&filter.0));
    let colours = std::io::stderr().is_terminal();
    match format {
        LogFormat::Text => registry.with(fmt::layer().with_ansi(colours).with_writer(std::io::stderr)).init(),
        LogFormat::Json => registry.with(fmt::layer().json().with_writer(std::io::stderr)).init(),
    }
}
