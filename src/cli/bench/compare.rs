//! `vxgate bench compare`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};

use super::failure::Failure;
use super::output::Output;
use crate::bounded;
use crate::loadgen::comparison::{Comparison, Contender};

/// The longest file, in bytes: some hundred thousand measures.
const FILE_LEN_MAX: u64 = 64 << 20;

/// Arguments of `vxgate bench compare`.
#[derive(Debug, Args)]
pub(super) struct Compare {
    /// What scripts/bench.sh wrote: JSON, one object a line (schema vxgate-bench/1). Rounds of different files are different
    /// rounds.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Whom the others are compared with.
    #[arg(long, value_enum, default_value_t = Baseline::Kernel)]
    baseline: Baseline,
    #[command(flatten)]
    output: Output,
}

/// Who can be compared with.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Baseline {
    /// The kernel's vxlan.
    Kernel,
    /// Open vSwitch.
    Ovs,
    /// vxgate.
    Vxgate,
}

impl Compare {
    pub(super) fn execute(&self) -> ExitCode {
        self.output.show_any(self.compare())
    }

    fn compare(&self) -> Result<Comparison, Failure> {
        let baseline = match self.baseline {
            Baseline::Kernel => Contender::Kernel,
            Baseline::Ovs => Contender::Ovs,
            Baseline::Vxgate => Contender::Vxgate,
        };
        let read = |path: &PathBuf| {
            let name = path.display().to_string();
            let longer = || format!("longer than {} MiB", FILE_LEN_MAX >> 20);
            match bounded::read_text(path, FILE_LEN_MAX, longer) {
                Ok(content) => Ok((name, content)),
                Err(source) => Err(Failure::Read { name, source }),
            }
        };
        let files: Vec<_> = self.files.iter().map(read).collect::<Result<_, _>>()?;
        Ok(Comparison::read(&files, baseline)?)
    }
}
