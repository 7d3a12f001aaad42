//! Read-only views for people and scrapers, and the sockets that hand them out.

mod control_socket;
mod http;
mod metrics;
mod status;
mod unix_socket;

pub use control_socket::{ControlSocket, SocketError, answer_to, ask, read_answer};
pub use http::{HEAD_LEN_MAX, Head, Method, Refusal, Request};
pub use metrics::{MetricsError, MetricsSocket};
pub use status::{Configuration, Health, SCHEMA, Status};
