//! The client against servers that each test scripts, over real sockets on loopback. The server here is written on
//! HTTP/2 alone, so that it shares no gRPC code with the client.

#![expect(clippy::unwrap_used, reason = "what cannot happen in a test is a failure of that test")]

mod calls;
mod compression;
mod connecting;
mod in_process;
mod proxy;
mod real_server;
mod server;
mod tls;
