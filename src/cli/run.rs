//! `vxgate run`.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::Args;
use crossbeam::channel::{Receiver, bounded};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tracing_subscriber::EnvFilter;

use super::output::is_coloured;
use super::{SocketArgument, fail, print};
use crate::config::{self, Config, ConfigError, Settings, WordKey};
use crate::fault::{Explained, Fault, Report};
use crate::gateway::{self, Gateway, StartError};
use crate::show::{ControlSocket, MetricsError, MetricsSocket, SocketError, Status};

/// Arguments of `vxgate run`.
#[derive(Debug, Args)]
pub(super) struct Run {
    /// Settings to start with (TOML); what a flag or its environment variable says counts before them.
    #[arg(long, value_name = "FILE", env = "VXGATE_CONFIG")]
    config: Option<PathBuf>,
    /// Judge the settings and exit: 0 when they can be, 78 when they cannot. Nothing is started or touched.
    #[arg(long)]
    check: bool,
    /// Take over only this vxlan device; may be given more than once [default: all that can be taken over].
    #[arg(long, value_name = "NAME", env = "VXGATE_VXLAN", value_delimiter = ' ')]
    vxlan: Vec<String>,
    /// Workers, one core each [default: one per core that every underlay device has a receive queue for].
    #[arg(long, value_name = "N", env = "VXGATE_WORKERS")]
    workers: Option<u32>,
    /// Whether superframes of TCP and UDP cross whole, by TAPs of our own: auto (up to the wire where the kernel cuts them
    /// there, Linux 6.17 and later, and the NIC has no zero-copy; elsewhere up to the workers, which cut them), cut (by the
    /// workers everywhere), off [default: auto].
    #[arg(long, value_name = "WORD", env = "VXGATE_SUPERFRAMES")]
    superframes: Option<String>,
    /// The workers' nice value, -20 to 19. At -20 they come before the kernel's threads on their cores, which otherwise may
    /// hold them up under overload; values below 0 need CAP_SYS_NICE, without which they run as all do [default: -20].
    #[arg(
        long,
        value_name = "N",
        env = "VXGATE_NICE",
        allow_negative_numbers = true
    )]
    nice: Option<i32>,
    /// What to log to standard error: error, warn, info, debug, or directives such as `vxgate::control=debug`.
    #[arg(
        long,
        value_name = "FILTER",
        default_value = "info",
        env = "VXGATE_LOG"
    )]
    log: String,
    #[command(flatten)]
    overlay: Overlay,
    #[command(flatten)]
    metrics: Metrics,
    #[command(flatten)]
    socket: SocketArgument,
}

/// What the data path does where the kernel and the RFC leave a choice: the keys of `[overlay]` in the file.
#[derive(Debug, Args)]
struct Overlay {
    /// Who may send to us: strict (known VTEPs of the VNI), strict-mac (and only stations that the FDB says are behind
    /// them), log (others, too, but counted and told), off (anybody). Without a UDP checksum over IPv6 only known VTEPs may
    /// [default: strict].
    #[arg(long, value_name = "WORD", env = "VXGATE_PEER_CHECK")]
    peer_check: Option<String>,
    /// Reserved VXLAN header bits on receipt: device (as the kernel's device lets through), strict (none), ignore (all),
    /// mask:HEX (these; 16 digits) [default: device].
    #[arg(long, value_name = "WORD", env = "VXGATE_RESERVED_BITS")]
    reserved_bits: Option<String>,
    /// Outer ECN bits for an inner CE: kernel (ECT(0)), rfc6040 (CE), compat (all bits 0 whatever is inside)
    /// [default: kernel].
    #[arg(long, value_name = "WORD", env = "VXGATE_ECN_ENCAP")]
    ecn_encap: Option<String>,
    /// Inner frames with a VLAN tag, both ways: pass, drop [default: pass].
    #[arg(long, value_name = "WORD", env = "VXGATE_INNER_VLAN")]
    inner_vlan: Option<String>,
    /// Received outer UDP checksums: auto (verified on hardware underlays), verify, ignore [default: auto].
    #[arg(long, value_name = "WORD", env = "VXGATE_UDP_CHECKSUM_RX")]
    udp_checksum_rx: Option<String>,
}

/// Where scrapers and probes find the daemon: the keys of `[metrics]` in the file.
#[derive(Debug, Args)]
struct Metrics {
    /// Where to serve /metrics (Prometheus), /healthz and /readyz over HTTP: auto (a UNIX socket beside the control socket,
    /// NAME.metrics.sock, for its owner and group), off, ADDRESS:PORT (for all who can connect: nobody is asked who they
    /// are), or the path of another UNIX socket [default: auto].
    #[arg(
        long = "metrics-listen",
        value_name = "WHERE",
        env = "VXGATE_METRICS_LISTEN"
    )]
    listen: Option<String>,
    /// How many VTEPs have metrics of their own, 0 to 10000: those with the narrowest paths [default: 512].
    #[arg(
        long = "metrics-max-peers",
        value_name = "N",
        env = "VXGATE_METRICS_MAX_PEERS"
    )]
    max_peers: Option<u32>,
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
            Self::Log { .. } | Self::Signals(_) | Self::Serve(_) => None,
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
            Self::Log { .. } => Fault::LogFilterInvalid,
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
    pub(super) fn execute(self) -> ExitCode {
        match self.run() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&error),
        }
    }

    fn run(self) -> Result<(), RunError> {
        let file = match &self.config {
            Some(path) => config::read(path)?,
            None => Settings::default(),
        };
        let given = self.given()?;
        let config = Config::new(given, file)?;
        let logging = log_filter(self.log)?;
        if self.check {
            print("the settings are valid\n");
            return Ok(());
        }
        start_logging(logging);
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
        socket.serve(look()).map_err(RunError::Serve)?;
        if let Some(metrics) = &metrics {
            metrics.serve(look(), peers_max)?;
        }
        announce(&gateway, &path, metrics.as_ref());
        gateway.run(&stop);
        notify(&[sd_notify::NotifyState::Stopping]);
        Ok(())
    }

    /// What flags and environment say.
    fn given(&self) -> Result<Settings, ConfigError> {
        let mut given = Settings {
            socket: self.socket.socket.clone(),
            ..Settings::default()
        };
        given.set_devices(self.vxlan.clone())?;
        if let Some(count) = self.workers {
            given.set_workers(count)?;
        }
        if let Some(nice) = self.nice {
            given.set_nice(nice)?;
        }
        if let Some(listen) = &self.metrics.listen {
            given.set_metrics_listen(listen)?;
        }
        if let Some(count) = self.metrics.max_peers {
            given.set_metrics_max_peers(count)?;
        }
        let overlay = &self.overlay;
        for (key, word) in [
            (WordKey::PeerCheck, &overlay.peer_check),
            (WordKey::ReservedBits, &overlay.reserved_bits),
            (WordKey::EcnEncap, &overlay.ecn_encap),
            (WordKey::InnerVlan, &overlay.inner_vlan),
            (WordKey::UdpChecksumRx, &overlay.udp_checksum_rx),
            (WordKey::Superframes, &self.superframes),
        ] {
            if let Some(word) = word {
                given.set_word(key, word)?;
            }
        }
        Ok(given)
    }
}

fn log_filter(filter: String) -> Result<EnvFilter, RunError> {
    EnvFilter::try_new(&filter).map_err(|source| RunError::Log { filter, source })
}

fn start_logging(directives: EnvFilter) {
    tracing_subscriber::fmt()
        .with_env_filter(directives)
        .with_writer(io::stderr)
        .with_ansi(is_coloured())
        .init();
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
