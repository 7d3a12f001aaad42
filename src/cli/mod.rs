//! The command line: one file a subcommand. Flags are parsed here into their raw form, judged by `config`, and run.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

mod bench;
mod capture;
mod config;
mod daemon;
mod doctor;
mod drain;
mod drops;
mod duration;
mod exit;
mod explain;
mod fdb;
mod flows;
mod log;
mod log_level;
mod manual;
mod order;
mod output;
mod peers;
mod perf;
mod progress;
mod reload;
mod reloads;
mod run;
mod schema;
mod serving;
mod settings;
mod state;
mod status;
mod top;
mod trace;
mod workers;

use output::{fail, print, print_json, print_json_line};

use crate::config::socket_path;
use crate::show::{Status, ask};

/// vxgate: a userspace VXLAN gateway on AF_XDP. It takes over the data path of the kernel's vxlan devices and fails open
/// to them.
#[derive(Debug, Parser)]
#[command(
    version,
    about,
    after_help = "Exit codes: 0 done or healthy, 1 failed, degraded or drained, 2 usage, 3 no daemon answers, 4 not found,\n\
                  5 permission denied, 69 kernel or device lacks a feature, 75 busy (try again), 78 invalid setting.\n\
                  Errors carry a code: `vxgate explain VXG-nnnn` says what it means, why it happens and what to do."
)]
struct Arguments {
    /// When to write in colour; `auto`: to a terminal, unless NO_COLOR is set.
    #[arg(
        long,
        value_enum,
        global = true,
        default_value = "auto",
        value_name = "WHEN"
    )]
    color: output::Colour,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Take over the data path of this network namespace's vxlan devices, in the foreground, until SIGTERM or SIGINT.
    Run(Box<run::Run>),
    /// Tell whether the running daemon is healthy, and why: devices, ports, workers, VTEPs, and the balance of frames.
    Status(status::ShowStatus),
    /// Tell what is wrong with this node, why, and what mends it: kernel, devices, MTUs, peers, the daemon. Needs no daemon.
    Doctor(doctor::Doctor),
    /// Show what was received from each remote VTEP and sent to it: frames, bytes, and when the last one was.
    Peers(peers::ShowPeers),
    /// Show what frames died of and when, what that means and what to do, and whether every frame has its fate.
    Drops(drops::ShowDrops),
    /// Show which address is behind which VTEP, as the workers have it, in the words of `bridge fdb`.
    Fdb(fdb::ShowFdb),
    /// Write frames as pcapng where they come in, where they leave, and where they die: both sides of the tunnel in one file.
    Capture(Box<capture::Capture>),
    /// Show frames where they come in, leave and die, a line each.
    Observe(Box<capture::Observe>),
    /// Measure what the workers do with their time, what a frame costs, by stage, and how full the rings get.
    Perf(perf::ShowPerf),
    /// Watch what happens a second, by port, worker, peer and reason to die, and what the last minutes were like.
    Top(top::ShowTop),
    /// Show which queue runs on which core, and what each worker does with its time.
    Workers(workers::ShowWorkers),
    /// Tell what would happen to a frame, step by step: it is walked through the tables by the code of the data path, and not
    /// sent.
    Trace(Box<trace::TraceFrame>),
    /// Write down what the running daemon goes by, for `vxgate trace --state` and for comparison.
    State(state::StateCommand),
    /// List the flows that the direct path knows: age, frames, gear, and why not a higher one (`vxgate run --direct flows`, or `always`).
    Flows(flows::ShowFlows),
    /// Have the running daemon read its configuration file again: as a whole, or, when something in it cannot be, not at
    /// all. Tells what changed, and what changes at the next start. SIGHUP does the same.
    Reload(reload::Reload),
    /// Hand the traffic to the kernel without stopping the daemon, until `vxgate resume`.
    Drain(drain::Drain),
    /// Take the traffic back from the kernel after `vxgate drain`.
    Resume(drain::Resume),
    /// Have the running daemon log something else until the next reload or start, or tell what it logs.
    LogLevel(log_level::ChangeLogLevel),
    /// Generate, receive, measure and judge traffic, plain or in VXLAN, between two network devices.
    Bench(bench::Bench),
    /// Judge, show and compare settings; print a template or the schema of the configuration file.
    Config(Box<config::ConfigCommand>),
    /// Say what an error's code means, why it happens and what to do; without a code, list them all.
    Explain(explain::Explain),
    /// Print the JSON Schema of what a command prints with --json.
    Schema(schema::PrintSchema),
    /// Print a script that completes `vxgate` in a shell.
    Completions(manual::Completions),
    /// Write manual pages.
    #[command(hide = true)]
    Man(manual::Manual),
}

/// Where the daemon listens.
#[derive(Debug, clap::Args)]
struct SocketArgument {
    /// Path of the control socket [default: /run/vxgate/netns-INODE.sock, INODE of this network namespace].
    #[arg(long, value_name = "PATH", env = "VXGATE_SOCKET")]
    socket: Option<PathBuf>,
}

impl SocketArgument {
    /// What the daemon there says of itself; or, when it says nothing, the exit code, with all else said.
    fn ask(self) -> Result<Status, ExitCode> {
        ask(&self.path()?).map_err(|error| fail(&error))
    }

    /// Its path.
    fn path(&self) -> Result<PathBuf, ExitCode> {
        socket_path(self.socket.clone()).map_err(|error| fail(&error))
    }
}

/// Parses the process's arguments and does what they say.
pub fn main() -> ExitCode {
    let matches = Arguments::command().get_matches();
    let arguments = Arguments::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    arguments.color.choose();
    // Tells a flag from its environment variable.
    let matches = matches.subcommand().map(|(_, matches)| matches);
    let code = match arguments.command {
        // It carries frames, whether anybody reads that it is ready or not.
        Command::Run(run) => return run.execute(matches),
        Command::Status(status) => status.execute(),
        Command::Doctor(doctor) => doctor.execute(),
        Command::Peers(peers) => peers.execute(),
        Command::Drops(drops) => drops.execute(),
        Command::Fdb(fdb) => fdb.execute(),
        Command::Capture(capture) => capture.execute(),
        Command::Observe(observe) => observe.execute(),
        Command::Perf(perf) => perf.execute(),
        Command::Top(top) => top.execute(),
        Command::Workers(workers) => workers.execute(),
        Command::Trace(trace) => trace.execute(),
        Command::State(state) => state.execute(),
        Command::Flows(flows) => flows.execute(),
        Command::Reload(reload) => reload.execute(),
        Command::Drain(drain) => drain.execute(),
        Command::Resume(resume) => resume.execute(),
        Command::LogLevel(change) => change.execute(),
        Command::Bench(bench) => bench.execute(),
        Command::Config(config) => config.execute(matches),
        Command::Explain(explain) => explain.execute(),
        Command::Schema(schema) => schema.execute(),
        Command::Completions(completions) => completions.execute(Arguments::command()),
        Command::Man(manual) => manual.execute(Arguments::command()),
    };
    output::judged(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definitions_are_consistent() {
        Arguments::command().debug_assert();
    }
}
