//! `vxgate workers`.

use std::process::ExitCode;

use clap::Args;

use super::{SocketArgument, exit, fail, print, print_json};
use crate::show::Workers;

/// Arguments of `vxgate workers`.
#[derive(Debug, Args)]
pub(super) struct ShowWorkers {
    /// Print one JSON document (schema vxgate/1) instead of text.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    socket: SocketArgument,
}

impl ShowWorkers {
    pub(super) fn execute(self) -> ExitCode {
        let workers = match self.socket.ask() {
            Ok(status) => Workers::of(&status),
            Err(code) => return code,
        };
        if self.json {
            if let Err(error) = print_json(&workers) {
                return fail(&error);
            }
        } else {
            print(&workers.to_string());
        }
        if workers.are_alive() {
            ExitCode::SUCCESS
        } else {
            ExitCode::from(exit::FAILED)
        }
    }
}
