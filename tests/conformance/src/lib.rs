//! Scenarios against a real Temporal server, over the lang protocol, through the public face of the core. Whatever a
//! workflow saw when it ran is compared with what the replayer shows of its history. No logic of the product is here.
#![cfg(test)]

mod activities;
mod flow;
mod journal;
mod language;
mod nexus;
mod scenarios;
mod scene;
mod server;
mod words;
