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

/// Starts the log. `RUST_LOG` chooses what is in it; default: this project's own words, and others' errors.
pub fn start(format: LogFormat) {
    let default = "error,vitrine_server=info,vitrine_core=info,vitrine_clip=info,vitrine_index=info";
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let registry = tracing_subscriber::registry().with(filter);
    let colours = std::io::stderr().is_terminal();
    match format {
        LogFormat::Text => registry.with(fmt::layer().with_ansi(colours).with_writer(std::io::stderr)).init(),
        LogFormat::Json => registry.with(fmt::layer().json().with_writer(std::io::stderr)).init(),
    }
}
