//! `vxgate status`.

use std::process::ExitCode;

use clap::Args;

use super::{SocketArgument, exit, fail, print};
use crate::config::socket_path;
use crate::show::{Health, SocketError, ask};

/// Arguments of `vxgate status`.
#[derive(Debug, Args)]
pub(super) struct ShowStatus {
    /// Print one JSON document (schema vxgate/1) instead of text.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    socket: SocketArgument,
}

impl ShowStatus {
    pub(super) fn execute(self) -> ExitCode {
        let path = match socket_path(self.socket.socket) {
            Ok(path) => path,
            Err(error) => return fail(exit::CONFIG, &error),
        };
        let status = match ask(&path) {
            Ok(status) => status,
            Err(error @ SocketError::NotRunning { .. }) => return fail(exit::NOT_RUNNING, &error),
            Err(error) => return fail(exit::FAILED, &error),
        };
        if self.json {
            match serde_json::to_string_pretty(&status) {
                Ok(json) => print(&format!("{json}\n")),
                Err(error) => return fail(exit::FAILED, &error),
            }
        } else {
            print(&status.to_string());
        }
        match status.state {
            Health::Healthy => ExitCode::SUCCESS,
            Health::Degraded => ExitCode::from(exit::FAILED),
        }
    }
}
