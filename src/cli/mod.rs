//! The command line: one file a subcommand. Flags are parsed here into their raw form, judged by `config`, and run.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod bench;
mod run;
mod status;

/// Exit codes, as `vxgate --help` lists them.
mod exit {
    /// Unhealthy, or an operation failed.
    pub const FAILED: u8 = 1;
    /// No daemon answers.
    pub const NOT_RUNNING: u8 = 3;
    /// A capability is missing.
    pub const PERMISSION: u8 = 5;
    /// The kernel or the device lacks a feature.
    pub const UNSUPPORTED: u8 = 69;
    /// Somebody else holds what is needed.
    pub const BUSY: u8 = 75;
    /// A setting cannot be.
    pub const CONFIG: u8 = 78;
}

/// vxgate: a userspace VXLAN gateway on AF_XDP. It takes over the data path of the kernel's vxlan devices and fails open
/// to them.
#[derive(Debug, Parser)]
#[command(
    version,
    about,
    after_help = "Exit codes: 0 done or healthy, 1 failed or degraded, 2 usage, 3 no daemon answers, 5 permission denied,\n\
                  69 kernel or device lacks a feature, 75 busy (try again), 78 invalid setting."
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Take over the data path of this network namespace's vxlan devices, in the foreground, until SIGTERM or SIGINT.
    Run(Box<run::Run>),
    /// Tell whether the running daemon is healthy, and why: devices, ports, workers, VTEPs, and the balance of frames.
    Status(status::ShowStatus),
    /// Generate, receive, measure and judge traffic, plain or in VXLAN, between two network devices.
    Bench(bench::Bench),
}

/// Where the daemon listens.
#[derive(Debug, clap::Args)]
struct SocketArgument {
    /// Path of the control socket [default: /run/vxgate/netns-INODE.sock, INODE of this network namespace].
    #[arg(long, value_name = "PATH", env = "VXGATE_SOCKET")]
    socket: Option<PathBuf>,
}

/// Parses the process's arguments and does what they say.
pub fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Run(run) => run.execute(),
        Command::Status(status) => status.execute(),
        Command::Bench(bench) => bench.execute(),
    }
}

/// Prints an error with its causes, and turns it into an exit code.
fn fail(code: u8, error: &dyn std::error::Error) -> ExitCode {
    let mut text = format!("vxgate: {error}");
    let mut cause = error.source();
    while let Some(inner) = cause {
        let words = inner.to_string();
        // Messages that already carry their cause must not say it twice.
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        cause = inner.source();
    }
    eprintln!("{text}");
    ExitCode::from(code)
}

/// Writes data to standard output. A reader that has gone away (`vxgate status | head -1`) is no failure.
fn print(text: &str) {
    let mut out = io::stdout().lock();
    if let Err(error) = out.write_all(text.as_bytes()).and_then(|()| out.flush())
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        eprintln!("vxgate: cannot write to standard output: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definitions_are_consistent() {
        Arguments::command().debug_assert();
    }
}
