//! `vxgate status`.

use std::process::ExitCode;

use clap::Args;

use super::{SocketArgument, exit, fail, print, print_json};
use crate::show::Health;

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
        let status = match self.socket.ask() {
            Ok(status) => status,
            Err(code) => return code,
        };
        if self.json {
            if let Err(error) = print_json(&status) {
                return fail(&error);
            }
        } else {
            print(&status.to_string());
        }
        match status.state {
            Health::Healthy => ExitCode::SUCCESS,
            Health::Degraded | Health::Drained => ExitCode::from(exit::FAILED),
        }
    }
}
