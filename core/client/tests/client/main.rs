//! The client against servers that each test scripts, over real sockets on loopback. The server here is written on
//! HTTP/2 alone, so that it shares no gRPC code with the client.

mod calls;
mod compression;
mod in_process;
mod proxy;
mod real_server;
mod server;
mod tls;
