//! `vxgate run`.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::{ArgMatches, Args};
use crossbeam::channel::{Receiver, bounded};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::log::{Log, LogError};
use super::settings::{SettingFlags, is_flag};
use super::{exit, fail, print};
use crate::config::{self, Config, ConfigError, LogFormat, Settings, effective};
use crate::fault::{self, Explained, Fault, Report};
use crate::gateway::{self, Gateway, StartError};
use crate::show::{Configuration, ControlSocket, MetricsError, MetricsSocket, SocketError, Status};

/// Arguments of `vxgate run`.
#[derive(Debug, Args)]
#[command(after_long_help = NIC_HELP)]
pub(super) struct Run {
    /// Settings to start with (TOML); what a flag or its environment variable says counts before them.
    #[arg(long, value_name = "FILE", env = "VXGATE_CONFIG")]
    config: Option<PathBuf>,
    /// Judge the settings and exit: 0 when they can be, 78 when they cannot. Nothing is started or touched.
    #[arg(long)]
    check: bool,
    #[command(flatten)]
    settings: SettingFlags,
}

/// What is asked of the underlay devices instead of being set.
const NIC_HELP: &str = "\
Asked of the underlay devices at each takeover (`vxgate status` tells the answers):
  outer UDP checksums  left to a device with tx-checksum-ip-generic on, with zero-copy if its driver heeds AF_XDP's
                       requests; `ethtool -K DEV tx off` has the workers compute them
  NUMA node            memory comes from the device's node, and the first workers get its cores";

/// Why `run` ended other than by a signal.
#[derive(Debug, thiserror::Error)]
enum RunError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error("cannot wait for signals: {0}")]
    Signals(io::Error),
    #[error(transparent)]
    Socket(#[from] SocketError),
    #[error("cannot serve the control socket: {0}")]
    Serve(io::Error),
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    #[error(transparent)]
    Start(#[from] StartError),
}

impl RunError {
    /// The error that this one only passes on.
    fn inner(&self) -> Option<&dyn Explained> {
        match self {
            Self::Config(error) => Some(error),
            Self::Socket(error) => Some(error),
            Self::Metrics(error) => Some(error),
            Self::Start(error) => Some(error),
            Self::Log(error) => Some(error),
            Self::Signals(_) | Self::Serve(_) => None,
        }
    }
}

impl Explained for RunError {
    fn fault(&self) -> Fault {
        match self {
            Self::Config(error) => error.fault(),
            Self::Socket(error) => error.fault(),
            Self::Metrics(error) => error.fault(),
            Self::Start(error) => error.fault(),
            Self::Log(error) => error.fault(),
            Self::Signals(_) => Fault::SignalsRefused,
            Self::Serve(_) => Fault::ThreadRefused,
        }
    }

    fn why(&self) -> Option<String> {
        self.inner()?.why()
    }

    fn remedy(&self) -> Option<String> {
        self.inner()?.remedy()
    }

    fn reports(&self) -> Vec<Report> {
        match self.inner() {
            Some(inner) => inner.reports(),
            None => vec![Report::whole(self)],
        }
    }
}

impl Run {
    /// `matches` are those of `run`.
    pub(super) fn execute(self, matches: Option<&ArgMatches>) -> ExitCode {
        self.judge(matches).unwrap_or_else(|error| fail(&error))
    }

    fn judge(self, matches: Option<&ArgMatches>) -> Result<ExitCode, RunError> {
        let file = match &self.config {
            Some(path) => config::read(path)?,
            None => Settings::default(),
        };
        let given = self.settings.given()?;
        let from_flag = |key| matches.is_some_and(|matches| is_flag(matches, key));
        let configuration = Configuration {
            settings: effective(&given, from_flag, &file)?,
            // The daemon may have another working directory than whoever asks it.
            file: self.config.map(|path| path.canonicalize().unwrap_or(path)),
        };
        let config = Config::new(given, file)?;
        if self.check {
            print("the settings are valid\n");
            return Ok(ExitCode::SUCCESS);
        }
        let format = config.log_format;
        let _log = Log::start(&config.log_level, format)?;
        match run(config, configuration) {
            Ok(()) => Ok(ExitCode::SUCCESS),
            Err(error) if format == LogFormat::Text => Err(error),
            Err(error) => {
                let code = error.fault().code();
                tracing::error!(code, "{}", fault::line(&error));
                match format {
                    // Whoever reads it expects nothing but objects.
                    LogFormat::Json => Ok(exit::of(&error)),
                    _ => Err(error),
                }
            }
        }
    }
}

/// Takes over, and carries on until a signal comes.
fn run(config: Config, configuration: Configuration) -> Result<(), RunError> {
    gateway::check_privileges().map_err(StartError::from)?;
    // From here on a signal waits until it can be obeyed in order.
    let stop = signals().map_err(RunError::Signals)?;
    let socket = ControlSocket::bind(&config.socket)?;
    // What is in its way is told before anything is taken over. Whoever asks already waits until there is an answer.
    let metrics = config.metrics.as_ref().map(MetricsSocket::bind);
    let metrics = metrics.transpose()?;
    let path: PathBuf = config.socket.clone();
    let peers_max = config.metrics_max_peers;
    let began = Instant::now();
    let gateway = Gateway::start(config)?;
    let look = || {
        let view = gateway.view();
        move || Status::new(view.observe(), began.elapsed().as_secs())
    };
    let seen = look();
    socket
        .serve(move || seen().with_configuration(configuration.clone()))
        .map_err(RunError::Serve)?;
    if let Some(metrics) = &metrics {
        metrics.serve(look(), peers_max)?;
    }
    announce(&gateway, &path, metrics.as_ref());
    gateway.run(&stop);
    notify(&[sd_notify::NotifyState::Stopping]);
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

fn announce(gateway: &Gateway, socket: &std::path::Path, metrics: Option<&MetricsSocket>) {
    let seen = gateway.view().observe();
    let names: Vec<_> = seen
        .devices
        .iter()
        .filter(|d| d.taken_over)
        .map(|d| d.name.as_str())
        .collect();
    let metrics = metrics.map_or_else(String::new, |metrics| {
        format!(", metrics on {}", metrics.endpoint())
    });
    print(&format!(
        "ready: {} through {} worker{}, control socket {}{metrics}\n",
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
