//! `vxgate run`.

use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::Args;
use crossbeam::channel::{Receiver, bounded};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tracing_subscriber::EnvFilter;

use super::{SocketArgument, exit, fail, print};
use crate::config::{Config, ConfigError};
use crate::gateway::{self, Gateway, SessionError, StartError};
use crate::port::OpenError;
use crate::show::{ControlSocket, SocketError, Status};
use crate::steer;

/// Arguments of `vxgate run`.
#[derive(Debug, Args)]
pub(super) struct Run {
    /// Take over only this vxlan device; may be given more than once [default: all that can be taken over].
    #[arg(long, value_name = "NAME")]
    vxlan: Vec<String>,
    /// Workers, one core each [default: one per core that every underlay device has a receive queue for].
    #[arg(long, value_name = "N", env = "VXGATE_WORKERS")]
    workers: Option<u32>,
    /// What to log to standard error: error, warn, info, debug, or directives such as `vxgate::control=debug`.
    #[arg(
        long,
        value_name = "FILTER",
        default_value = "info",
        env = "VXGATE_LOG"
    )]
    log: String,
    #[command(flatten)]
    socket: SocketArgument,
}

/// Why `run` ended other than by a signal.
#[derive(Debug, thiserror::Error)]
enum RunError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("--log '{filter}': {source}")]
    Log {
        filter: String,
        source: tracing_subscriber::filter::ParseError,
    },
    #[error("cannot wait for signals: {0}")]
    Signals(io::Error),
    #[error(transparent)]
    Socket(#[from] SocketError),
    #[error("cannot serve the control socket: {0}")]
    Serve(io::Error),
    #[error(transparent)]
    Start(#[from] StartError),
}

impl Run {
    pub(super) fn execute(self) -> ExitCode {
        match self.run() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(exit_code(&error), &error),
        }
    }

    fn run(self) -> Result<(), RunError> {
        let config = Config::new(self.vxlan, self.workers, self.socket.socket)?;
        start_logging(self.log)?;
        gateway::check_privileges().map_err(StartError::from)?;
        // From here on a signal waits until it can be obeyed in order.
        let stop = signals().map_err(RunError::Signals)?;
        let socket = ControlSocket::bind(&config.socket)?;
        let path: PathBuf = config.socket.clone();
        let began = Instant::now();
        let gateway = Gateway::start(config)?;
        let view = gateway.view();
        socket
            .serve(move || Status::new(view.observe(), began.elapsed().as_secs()))
            .map_err(RunError::Serve)?;
        announce(&gateway, &path);
        gateway.run(&stop);
        notify(&[sd_notify::NotifyState::Stopping]);
        Ok(())
    }
}

fn start_logging(filter: String) -> Result<(), RunError> {
    let directives =
        EnvFilter::try_new(&filter).map_err(|source| RunError::Log { filter, source })?;
    tracing_subscriber::fmt()
        .with_env_filter(directives)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .init();
    Ok(())
}

/// A channel that says when SIGTERM or SIGINT has come.
fn signals() -> io::Result<Receiver<()>> {
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    let (sender, receiver) = bounded(1);
    std::thread::Builder::new()
        .name("vxgate-signals".into())
        .spawn(move || {
            for signal in signals.forever() {
                tracing::info!(signal, "stopping");
                // Full means that it has been said already.
                let _ = sender.try_send(());
            }
        })?;
    Ok(receiver)
}

fn announce(gateway: &Gateway, socket: &std::path::Path) {
    let seen = gateway.view().observe();
    let names: Vec<_> = seen
        .devices
        .iter()
        .filter(|d| d.taken_over)
        .map(|d| d.name.as_str())
        .collect();
    print(&format!(
        "ready: {} through {} worker{}, control socket {}\n",
        names.join(", "),
        seen.workers.len(),
        if seen.workers.len() == 1 { "" } else { "s" },
        socket.display()
    ));
    notify(&[sd_notify::NotifyState::Ready]);
}

/// Tells systemd, when it listens (`NOTIFY_SOCKET`).
fn notify(state: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "cannot notify the service manager");
    }
}

fn exit_code(error: &RunError) -> u8 {
    match error {
        RunError::Config(_) | RunError::Log { .. } => exit::CONFIG,
        RunError::Socket(SocketError::InUse { .. }) => exit::BUSY,
        RunError::Start(StartError::Privileges(_)) => exit::PERMISSION,
        RunError::Start(StartError::Session(SessionError::Lock(_))) => exit::BUSY,
        RunError::Start(StartError::Session(SessionError::Port(OpenError::Busy { .. }))) => {
            exit::BUSY
        }
        RunError::Start(StartError::Session(SessionError::Steer(
            steer::Error::ForeignProgram { .. },
        ))) => exit::BUSY,
        RunError::Start(StartError::Session(SessionError::Steer(steer::Error::Load(_)))) => {
            exit::UNSUPPORTED
        }
        _ => exit::FAILED,
    }
}
