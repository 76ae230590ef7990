//! Loads a product feed and its pictures into a new generation of the index.
//!
//! Two passes over the feed, each in bounded memory: `survey` finds the attributes and their types, since their
//! payload indexes must be there before the first product; `ingest` reads, embeds and adds. Then the gate looks at
//! the new generation, and it serves.

pub mod cli;
mod dead_letters;
mod digest;
mod feed;
mod ingest;
mod pictures;
mod product;
mod progress;
mod run;
mod survey;

pub use run::{LoadError, Summary, run};
