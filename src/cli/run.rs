//! `vxgate run`.

use std::io;
use std::path::{Path, PathBuf, absolute};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::{ArgMatches, Args};
use crossbeam::channel::{Receiver, bounded};
use sd_notify::NotifyState;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::daemon::{Daemon, Given};
use super::log::{Log, LogError};
use super::reloads::ReloadBook;
use super::serving::Serving;
use super::settings::{SettingFlags, is_flag};
use super::{exit, fail, print};
use crate::config::{self, Config, ConfigError, Endpoint, Key, LogFormat, Settings};
use crate::fault::{self, Explained, Fault};
use crate::gateway::{self, Gateway, StartError};
use crate::show::{Configuration, ControlSocket, MetricsError, MetricsSocket, SocketError, Status};
use crate::show::{LastDropped, Look, Seen, WorkersNow};

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

    fn passed_on(&self) -> Option<&dyn Explained> {
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
        let from_flag = |key: &Key| matches.is_some_and(|matches| is_flag(matches, *key));
        let given = Given {
            settings: self.settings.given()?,
            flags: Key::ALL.iter().copied().filter(from_flag).collect(),
        };
        let configuration = Configuration {
            settings: given.effective(&file)?,
            // The daemon may have another working directory than whoever asks it. A link stays one: what it leads to may be
            // another file when this one is read again.
            file: self.config.map(|path| absolute(&path).unwrap_or(path)),
            log_level: None,
        };
        let config = Config::new(given.settings.clone(), file)?;
        if self.check {
            print("the settings are valid\n");
            return Ok(ExitCode::SUCCESS);
        }
        let format = config.log_format;
        let log = Log::start(&config.log_level, format)?;
        match run(config, given, configuration, log) {
            Ok(()) => Ok(ExitCode::SUCCESS),
            // Whoever reads it expects nothing but objects, of which it was one.
            Err(error) if format == LogFormat::Json => Ok(exit::of(&error)),
            Err(error) => Err(error),
        }
    }
}

/// Takes over, and carries on until a signal comes. What goes wrong is in the log, too, unless that is for people, who are told
/// anyway.
fn run(
    config: Config,
    given: Given,
    configuration: Configuration,
    log: Log,
) -> Result<(), RunError> {
    let format = config.log_format;
    let outcome = carry(config, given, configuration, log);
    if let Err(error) = &outcome
        && format != LogFormat::Text
    {
        let code = error.fault().code();
        tracing::error!(code, "{}", fault::line(error));
    }
    outcome
}

fn carry(
    config: Config,
    given: Given,
    configuration: Configuration,
    log: Log,
) -> Result<(), RunError> {
    gateway::check_privileges().map_err(StartError::from)?;
    // From here on a signal waits until it can be obeyed in order.
    let (stop, hangup) = signals().map_err(RunError::Signals)?;
    let socket = ControlSocket::bind(&config.socket)?;
    // What is in its way is told before anything is taken over. Whoever asks already waits until there is an answer.
    let place = config.metrics.clone();
    let metrics = place.as_ref().map(MetricsSocket::bind).transpose()?;
    let path: PathBuf = config.socket.clone();
    let peers_max = config.metrics_max_peers;
    let began = Instant::now();
    let gateway = Gateway::start(config)?;
    let socket = socket.capturing(gateway.captures());
    let view = gateway.view();
    let eyes = view.clone();
    let handles = (view.clone(), gateway.orders());
    let reloads = Arc::new(ReloadBook::begin());
    let counted = Arc::clone(&reloads);
    let look = move || {
        let status = Status::new(view.observe(), began.elapsed().as_secs());
        status.with_reloads(counted.read())
    };
    let look = Arc::new(look);
    let serving = Serving::start(metrics, place, path.clone(), peers_max, look.clone())?;
    let ready = announcement(&gateway, &path, serving.endpoint());
    let daemon = Daemon::new(given, configuration, log, handles, serving, reloads);
    let daemon = Arc::new(daemon);
    let [asked, told, by_signal] = [&daemon, &daemon, &daemon].map(Arc::clone);
    socket
        .serve(
            move |what| match what {
                Look::DroppedFrames => {
                    let last = LastDropped::new(eyes.dropped_frames());
                    Ok(Seen::DroppedFrames(last))
                }
                Look::Fdb(query) => {
                    let page = eyes.fdb(&query);
                    page.map(Seen::Fdb).map_err(|error| error.reports())
                }
                Look::State => Ok(Seen::State(Box::new(eyes.state()))),
                Look::Workers { last_ms } => {
                    let (workers, takeovers) = eyes.workers(Duration::from_millis(last_ms));
                    Ok(Seen::Workers(WorkersNow::new(workers, takeovers)))
                }
                Look::Status => {
                    let status = look().with_configuration(asked.configuration());
                    Ok(Seen::Status(Box::new(status)))
                }
            },
            move |action| told.act(action),
        )
        .map_err(RunError::Serve)?;
    reload_on(hangup, by_signal).map_err(RunError::Serve)?;
    print(&ready);
    notify(&[NotifyState::Ready]);
    gateway.run(&stop);
    notify(&[NotifyState::Stopping]);
    daemon.stop();
    Ok(())
}

/// Channels that say when SIGTERM or SIGINT has come, and when SIGHUP has.
fn signals() -> io::Result<(Receiver<()>, Receiver<()>)> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    let (stop, stopped) = bounded(1);
    let (hangup, hung_up) = bounded(1);
    std::thread::Builder::new()
        .name("vxgate-signals".into())
        .spawn(move || {
            for signal in signals.forever() {
                // Full means that it has been said already.
                let _ = if signal == SIGHUP {
                    hangup.try_send(())
                } else {
                    tracing::info!(signal, "stopping");
                    stop.try_send(())
                };
            }
        })?;
    Ok((stopped, hung_up))
}

/// Has the daemon read its file again whenever SIGHUP comes. A service manager is told when it begins and ends.
fn reload_on(hangup: Receiver<()>, daemon: Arc<Daemon>) -> io::Result<()> {
    let reload = move || {
        for () in hangup {
            match NotifyState::monotonic_usec_now() {
                Ok(now) => notify(&[NotifyState::Reloading, now]),
                Err(error) => tracing::debug!(%error, "the time is not told"),
            }
            daemon.reload_by_signal();
            notify(&[NotifyState::Ready]);
        }
    };
    let thread = std::thread::Builder::new().name("vxgate-reload".into());
    thread.spawn(reload).map(drop)
}

/// The line that says that frames flow.
fn announcement(gateway: &Gateway, socket: &Path, metrics: Option<&Endpoint>) -> String {
    let seen = gateway.view().observe();
    let names: Vec<_> = seen
        .devices
        .iter()
        .filter(|d| d.taken_over)
        .map(|d| d.name.as_str())
        .collect();
    let metrics = metrics.map_or_else(String::new, |metrics| format!(", metrics on {metrics}"));
    format!(
        "ready: {} through {} worker{}, control socket {}{metrics}\n",
        names.join(", "),
        seen.workers.len(),
        if seen.workers.len() == 1 { "" } else { "s" },
        socket.display()
    )
}

/// Tells systemd, when it listens (`NOTIFY_SOCKET`).
fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "cannot notify the service manager");
    }
}
