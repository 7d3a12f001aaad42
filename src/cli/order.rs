//! What commands have in common that tell the daemon to do something.

use std::fmt;
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{SocketArgument, fail, print, print_json};
use crate::config::socket_path;
use crate::show::{Action, order};

/// Arguments of all of them.
#[derive(Debug, Args)]
pub(super) struct OrderArguments {
    /// Print one JSON document (schema vxgate/1) instead of text.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    socket: SocketArgument,
}

impl OrderArguments {
    /// Tells the daemon to do something, and prints what came of it.
    pub(super) fn execute<T>(self, action: Action) -> ExitCode
    where
        T: DeserializeOwned + Serialize + fmt::Display,
    {
        let done = match socket_path(self.socket.socket) {
            Ok(path) => order::<T>(&path, action),
            Err(error) => return fail(&error),
        };
        match done {
            Ok(done) if self.json => match print_json(&done) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => fail(&error),
            },
            Ok(done) => {
                print(&done.to_string());
                ExitCode::SUCCESS
            }
            Err(error) => fail(&error),
        }
    }
}
