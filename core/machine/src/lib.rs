//! The pure heart of Outlast: what a run's history means to its workflow code, and what that code's commands mean to
//! the server. It knows no clock, socket, thread or random number: time comes in as an argument.
//!
//! The contract, for `Run` and `Shard` alike: **call `handle(now, input)`, then drain
//! `poll()` until `None`, then wait for an arrival or for `deadline()`.**

pub mod io;
pub mod time;
