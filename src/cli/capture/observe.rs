//! `vxgate observe`: frames as lines.

use std::process::ExitCode;

use clap::Args;

use super::watching::{WatchArguments, WatchError, Watched, Watching};
use crate::cli::fail;
use crate::cli::output::print_to_reader;
use crate::show::{Observed, Told};

/// Bytes of a frame that its line may need.
const SNAPLEN: u32 = 512;

/// Arguments of `vxgate observe`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Observe {
    #[command(flatten)]
    asked: WatchArguments,
    /// End after so many frames.
    #[arg(short = 'c', long, value_name = "N")]
    limit: Option<u64>,
    /// Print a JSON object (schema vxgate/1) a line instead of text.
    #[arg(long)]
    json: bool,
}

impl Observe {
    pub(in crate::cli) fn execute(self) -> ExitCode {
        match self.run() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&error),
        }
    }

    fn run(self) -> Result<(), WatchError> {
        let mut watching = Watching::begin(self.asked, SNAPLEN)?;
        let (mut shown, mut lost) = (0_u64, 0);
        while self.limit.is_none_or(|limit| shown < limit) {
            match watching.next()? {
                Watched::Frame(frame) => {
                    let observed = Observed::from(Told::of(&frame, &watching.stream));
                    if !print_to_reader(&line(&observed, self.json)) {
                        return Ok(());
                    }
                    shown += 1;
                }
                Watched::Lost(counts) if counts.lost > lost => {
                    lost = counts.lost;
                    eprintln!("{lost} frames lost so far: they come faster than they are shown");
                }
                Watched::Lost(_) | Watched::Nothing => {}
                Watched::End => {
                    let (seen, lost) = (watching.seen, watching.stream.counts().lost);
                    eprintln!("{shown} frames shown, {seen} seen, {lost} lost");
                    break;
                }
            }
        }
        Ok(())
    }
}

fn line(observed: &Observed, json: bool) -> String {
    if json {
        // Text and numbers always have a JSON.
        serde_json::to_string(observed).unwrap_or_default() + "\n"
    } else {
        format!("{observed}\n")
    }
}
