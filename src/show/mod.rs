//! Read-only views for people and scrapers, and the control socket that hands them out.

mod control_socket;
mod status;

pub use control_socket::{ControlSocket, SocketError, answer_to, ask, read_answer};
pub use status::{Health, SCHEMA, Status};
