//! Views for people and scrapers, the sockets that hand them out, and what a daemon may be told over one of them.

mod control_socket;
mod http;
mod metrics;
mod operation;
mod status;
mod unix_socket;

pub use control_socket::{
    ControlSocket, SocketError, answer_to, ask, ask_within, order, read_answer,
};
pub use http::{HEAD_LEN_MAX, Head, Method, Refusal, Request};
pub use metrics::{MetricsError, MetricsSocket};
pub use operation::{Action, Done, LogLevel, Reloaded, Traffic};
pub use status::{Configuration, Health, SCHEMA, Status};
