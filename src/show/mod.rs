//! Read-only views for people and scrapers, and the control socket that hands them out.

mod control_socket;
mod status;

pub use control_socket::{ControlSocket, SocketError, ask};
pub use status::{Health, SCHEMA, Status};
