//! The Vitrine service and its command line: settings, gRPC handlers, health, drain, and a client to try it with.

pub mod cli;
mod client;
mod grpc;
mod health;
mod index;
mod metrics;
mod model;
mod plan;
pub mod serve;
pub mod settings;
mod stop;
pub mod telemetry;

pub use client::{parse_filter, search};
pub use index::{IndexCommandError, look_after_index};
pub use model::check_model;
pub use plan::plan;
