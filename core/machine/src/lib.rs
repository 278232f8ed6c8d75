//! The pure heart of Outlast: what a run's history means to its workflow code, and what that code's commands mean to
//! the server. It knows no clock, socket, thread or random number: time comes in as an argument.
//!
//! The contract, for a [`Shard`](shard::Shard): **call `handle(now, input)`, then drain
//! `poll()` until `None`, then wait for an arrival or for `deadline()`.**

mod config;
mod event;
mod failure;
pub mod fault;
mod flags;
mod history;
pub mod io;
mod jobs;
mod marker;
mod ops;
mod queue;
mod ring;
mod run;
mod seed;
pub mod shard;
pub mod time;
mod wire;
mod workflow;

pub use config::{Config, Nondeterminism};
pub use event::EventId;
