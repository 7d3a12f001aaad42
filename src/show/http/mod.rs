//! As much of HTTP/1 (RFC 9110, 9112) as scrapers, probes and people with `curl` need: `GET` and `HEAD`, one question a
//! connection, answered from memory.
//!
//! Whoever asks is trusted with nothing. One thread serves all connections and waits for none of them; a head that is too
//! long, a client that is too slow and one too many are got rid of, so what they can take is bounded ([`Server`] says by
//! what). No worker is ever asked for anything.

mod request;
mod response;
mod server;

pub use request::{HEAD_LEN_MAX, Head, Method, Refusal, Request};
pub(super) use response::Response;
pub(super) use server::{Listener, Server};
