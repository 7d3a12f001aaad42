//! `vxgate status`.

use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;

use super::duration::seconds;
use super::progress::Progress;
use super::{SocketArgument, exit, fail, print, print_json};
use crate::show::{Brief, Health, PATIENCE, SocketError, Status, ask_within};

/// How often to look whether it is healthy by now.
const PAUSE: Duration = Duration::from_millis(200);
/// How long a daemon may take to answer, however little is left of the time to wait: a busy machine is no hung daemon.
const ANSWER_MIN: Duration = Duration::from_secs(1);

/// Arguments of `vxgate status`.
#[derive(Debug, Args)]
pub(super) struct ShowStatus {
    /// Print one JSON document (schema vxgate/1) instead of text.
    #[arg(long)]
    json: bool,
    /// Print one line: the verdict, what is at work, and the first reason why it is not as it should be.
    #[arg(long, conflicts_with = "json")]
    brief: bool,
    /// Wait until a daemon answers and is healthy, for so long at most (--wait=30s), but a second for an answer; then show what
    /// there is.
    #[arg(
        long,
        value_name = "TIME",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "5m",
        value_parser = seconds
    )]
    wait: Option<Duration>,
    #[command(flatten)]
    socket: SocketArgument,
}

impl ShowStatus {
    pub(super) fn execute(self) -> ExitCode {
        let path = match self.socket.path() {
            Ok(path) => path,
            Err(code) => return code,
        };
        let status = match self.look(&path) {
            Ok(status) => status,
            Err(error) => return fail(&error),
        };
        if self.json {
            if let Err(error) = print_json(&status) {
                return fail(&error);
            }
        } else if self.brief {
            print(&format!("{}\n", Brief(&status)));
        } else {
            print(&status.to_string());
        }
        match status.state {
            Health::Healthy => ExitCode::SUCCESS,
            Health::Degraded | Health::Drained => ExitCode::from(exit::FAILED),
        }
    }

    /// What the daemon says, by the time that it is healthy or has been waited for long enough.
    fn look(&self, path: &Path) -> Result<Status, SocketError> {
        let until = Instant::now() + self.wait.unwrap_or_default();
        let mut progress = Progress::new();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let patience = match self.wait {
                Some(_) => left.clamp(ANSWER_MIN, PATIENCE),
                None => PATIENCE,
            };
            let answer = ask_within(path, patience);
            let is_healthy = matches!(&answer, Ok(status) if status.state == Health::Healthy);
            if is_healthy || Instant::now() >= until {
                return answer;
            }
            progress.tell(|| match &answer {
                Ok(status) => format!("waiting: {}", Brief(status)),
                Err(error) => format!("waiting: {error}"),
            });
            thread::sleep(PAUSE);
        }
    }
}
