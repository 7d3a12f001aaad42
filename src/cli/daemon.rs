//! A running daemon, as it is told to change: by `vxgate reload` and the other commands, over the control socket, and by SIGHUP.
//! One thing is done at a time.
//!
//! A file that is read again counts as a whole or not at all. What can fail (the file itself, a place for the metrics) is tried
//! before anything is changed.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::log::Log;
use super::reloads::ReloadBook;
use super::serving::Serving;
use crate::config::{
    self, Applies, Change, Config, ConfigError, Effective, Key, Settings, changes, effective,
    in_force, judge_log_level,
};
use crate::fault::{Explained, Fault, Report};
use crate::gateway::{Orders, Stopping, View};
use crate::show::{
    Action, Configuration, Done, Flows, LogLevel, Measuring, MetricsError, Reloaded, SCHEMA,
    Traffic,
};
use crate::stats::STAGES_LEASE_NS;

/// What flags and the environment said at the start. It counts before the file whenever that is read.
pub(super) struct Given {
    pub(super) settings: Settings,
    /// Those that were flags.
    pub(super) flags: Vec<Key>,
}

impl Given {
    /// Every setting that this and a file come to, with where it comes from.
    ///
    /// # Errors
    /// When there is nothing to derive the control socket's path from.
    pub(super) fn effective(&self, file: &Settings) -> Result<Vec<Effective>, ConfigError> {
        effective(&self.settings, |key| self.flags.contains(&key), file)
    }
}

/// A daemon at work.
pub(super) struct Daemon {
    given: Given,
    file: Option<PathBuf>,
    log: Log,
    view: View,
    orders: Orders,
    /// Held by whoever changes something.
    serving: Mutex<Serving>,
    settings: Mutex<Vec<Effective>>,
    reloads: Arc<ReloadBook>,
}

/// Why it did not do what it was told.
#[derive(Debug, thiserror::Error)]
enum OrderError {
    #[error("the daemon was started without a configuration file: there is nothing to read again")]
    NoFile,
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    #[error(transparent)]
    Stopping(#[from] Stopping),
}

impl Explained for OrderError {
    fn fault(&self) -> Fault {
        self.passed_on().map_or(Fault::FileNone, Explained::fault)
    }

    fn passed_on(&self) -> Option<&dyn Explained> {
        match self {
            Self::NoFile => None,
            Self::Config(error) => Some(error),
            Self::Metrics(error) => Some(error),
            Self::Stopping(error) => Some(error),
        }
    }
}

impl Daemon {
    /// One with these settings in force.
    pub(super) fn new(
        given: Given,
        configuration: Configuration,
        log: Log,
        (view, orders): (View, Orders),
        serving: Serving,
        reloads: Arc<ReloadBook>,
    ) -> Self {
        Self {
            given,
            file: configuration.file,
            log,
            view,
            orders,
            serving: Mutex::new(serving),
            settings: Mutex::new(configuration.settings),
            reloads,
        }
    }

    /// Serves no metrics any more, and tells what of the log has been left out. The threads that answer hold the daemon, so it
    /// does not end with its last owner.
    pub(super) fn stop(&self) {
        lock(&self.serving).stop();
        self.log.finish();
    }

    /// The settings in force.
    pub(super) fn configuration(&self) -> Configuration {
        let settings = lock(&self.settings).clone();
        let level = self.log.level();
        let configured = settings.iter().find(|one| one.key == Key::LogLevel.path());
        let is_other = configured.is_none_or(|one| one.value != level.as_str());
        Configuration {
            file: self.file.clone(),
            settings,
            log_level: is_other.then_some(level),
        }
    }

    /// Does what it is told.
    ///
    /// # Errors
    /// All that is to be said of why not; nothing is changed then.
    pub(super) fn act(&self, action: Action) -> Result<Done, Vec<Report>> {
        let done = match action {
            Action::Reload => self.reload().map(Done::Reloaded),
            Action::LogLevel(level) => self.log_level(level).map(Done::LogLevel),
            Action::Flows => Ok(Done::Flows(Flows::new(self.view.flows()))),
            Action::Drain => {
                let _one = lock(&self.serving);
                let drained = self.orders.drain().map_err(OrderError::from);
                drained.map(|drained| Done::Traffic(Traffic::from(drained)))
            }
            Action::Resume => {
                let _one = lock(&self.serving);
                let resumed = self.orders.resume().map_err(OrderError::from);
                resumed.map(|resumed| Done::Traffic(Traffic::from(resumed)))
            }
            Action::MeasureStages => {
                self.view.measure_stages();
                Ok(Done::Measuring(Measuring {
                    schema: SCHEMA.to_owned(),
                    for_ms: STAGES_LEASE_NS / 1_000_000,
                }))
            }
        };
        done.map_err(|error| error.reports())
    }

    /// Reads the file again because a signal asks for it: what comes of it is in the log.
    pub(super) fn reload_by_signal(&self) {
        // Logged by `reload` itself.
        let _ = self.reload();
    }

    fn reload(&self) -> Result<Reloaded, OrderError> {
        let mut serving = lock(&self.serving);
        let outcome = self.read_again(&mut serving);
        self.reloads.count(outcome.is_ok());
        drop(serving);
        match &outcome {
            Ok(reloaded) => {
                let file = reloaded.file.display();
                let (live, restart) = reloaded.counts();
                tracing::info!(%file, live, restart, "configuration read again");
                for change in &reloaded.changes {
                    tracing::info!("{change}");
                }
            }
            Err(error) => {
                for report in error.reports() {
                    let (code, what) = (report.fault.code(), &report.what);
                    tracing::error!(code, "the configuration stays as it was: {what}");
                }
            }
        }
        outcome
    }

    fn read_again(&self, serving: &mut Serving) -> Result<Reloaded, OrderError> {
        let path = self.file.as_ref().ok_or(OrderError::NoFile)?;
        let file = config::read_again(path)?;
        let wanted = self.given.effective(&file)?;
        let settings = self.given.settings.clone().or(file.clone());
        let listen = settings.metrics_listen.clone().unwrap_or_default();
        let config = Config::new(settings, Settings::default())?;
        let running = lock(&self.settings).clone();
        let mut changes = changes(&running, &file)?;
        self.note_log_level(&config.log_level, &mut changes);

        serving.move_to(listen)?;
        self.orders.set_policy(config.policy)?;
        serving.set_peers_max(config.metrics_max_peers);
        if self.log.level() != config.log_level {
            self.log.set_level(&config.log_level);
        }
        *lock(&self.settings) = in_force(&running, wanted);
        Ok(Reloaded::new(path.clone(), changes))
    }

    /// What was logged for now ends with a reload, and that is a change like any other.
    fn note_log_level(&self, wanted: &str, changes: &mut Vec<Change>) {
        let key = Key::LogLevel.path();
        let Some(now) = self.configuration().log_level else {
            return;
        };
        changes.retain(|change| change.key != key);
        if now != wanted {
            changes.push(Change {
                key,
                running: now.into(),
                file: wanted.into(),
                kept_by: None,
                applies: Applies::Live,
            });
        }
    }

    fn log_level(&self, level: Option<String>) -> Result<LogLevel, OrderError> {
        let Some(level) = level else {
            return Ok(LogLevel::new(self.log.level(), None));
        };
        judge_log_level(&level)?;
        let _one = lock(&self.serving);
        let before = self.log.level();
        self.log.set_level(&level);
        tracing::info!(before, "log level {level}");
        Ok(LogLevel::new(level, Some(before)))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What a panic left half-done is no worse than what an error would leave.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
