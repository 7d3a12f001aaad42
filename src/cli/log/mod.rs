//! The log: one line an event, as text, JSON or entries of systemd's journal. No worker writes to it while frames flow, so it
//! never holds one up. What says the same over and over is told a few times, and then how often (`limited.rs`).
//!
//! A line of JSON has `timestamp` (RFC 3339, UTC), `level`, `target` (the module), `message`, and beside them the fields of the
//! event: `code` of an error, `device`, `worker`, and so on. In the journal they are TARGET, MESSAGE and `VXGATE_DEVICE`.

mod limited;
mod repeats;

use std::io;
use std::sync::{Mutex, PoisonError};

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt, reload};

use super::output::is_coloured;
use crate::config::LogFormat;
use crate::fault::{Explained, Fault};
use limited::{Limited, Repetitions};

/// Who we are to the journal.
const IDENTIFIER: &str = "vxgate";
/// The prefix of our fields there.
const JOURNAL_PREFIX: &str = "VXGATE";

/// The log cannot be written.
#[derive(Debug, thiserror::Error)]
pub(super) enum LogError {
    /// The journal does not take entries.
    #[error("cannot write to the journal: {0}")]
    Journal(io::Error),
    /// Repetitions are told by a thread of their own.
    #[error("cannot start a thread for the log: {0}")]
    Thread(io::Error),
}

impl Explained for LogError {
    fn fault(&self) -> Fault {
        match self {
            Self::Journal(_) => Fault::JournalSilent,
            Self::Thread(_) => Fault::ThreadRefused,
        }
    }
}

/// The log of the process.
pub(super) struct Log {
    filter: reload::Handle<EnvFilter, Registry>,
    level: Mutex<String>,
    repetitions: Repetitions,
}

impl Log {
    /// Starts it.
    ///
    /// # Errors
    /// When the journal was asked for and is not there, or there is no thread.
    pub(super) fn start(level: &str, format: LogFormat) -> Result<Self, LogError> {
        let (filter, handle) = reload::Layer::new(filter(level));
        let lines: Box<dyn Layer<_> + Send + Sync> = match format {
            LogFormat::Text => Box::new(
                fmt::layer()
                    .with_writer(io::stderr)
                    .with_ansi(is_coloured()),
            ),
            LogFormat::Json => Box::new(json(io::stderr)),
            LogFormat::Journald => Box::new(
                tracing_journald::layer()
                    .map_err(LogError::Journal)?
                    .with_syslog_identifier(IDENTIFIER.to_owned())
                    .with_field_prefix(Some(JOURNAL_PREFIX.to_owned())),
            ),
        };
        let repetitions = Repetitions::default();
        repetitions.tell_in_time().map_err(LogError::Thread)?;
        tracing_subscriber::registry()
            .with(filter)
            .with(Limited::new(lines, repetitions.clone()))
            .init();
        Ok(Self {
            filter: handle,
            level: Mutex::new(level.to_owned()),
            repetitions,
        })
    }

    /// What is logged: a level, or directives by module.
    pub(super) fn level(&self) -> String {
        let level = self.level.lock();
        level.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Logs something else from now on; what it is has been judged (`config::log`).
    pub(super) fn set_level(&self, level: &str) {
        if let Err(error) = self.filter.reload(filter(level)) {
            // It is that of the process, which goes on.
            tracing::warn!(%error, "the log has no filter any more");
            return;
        }
        let mut now = self.level.lock().unwrap_or_else(PoisonError::into_inner);
        level.clone_into(&mut now);
    }

    /// Tells what has been left out so far: nobody will later.
    pub(super) fn finish(&self) {
        self.repetitions.tell_all();
    }
}

/// Of a level that has been judged: what is not understood all the same is left out.
fn filter(level: &str) -> EnvFilter {
    EnvFilter::new(level)
}

/// Lines of JSON.
fn json<S, W>(writer: W) -> impl Layer<S> + Send + Sync
where
    S: tracing::Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
    W: for<'a> fmt::MakeWriter<'a> + Send + Sync + 'static,
{
    fmt::layer()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
        .with_writer(writer)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use serde_json::Value;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What stands in the log after `events`, a JSON object a line.
    fn logged(events: impl FnOnce(&Repetitions)) -> Vec<Value> {
        let (sink, repetitions) = (Sink::default(), Repetitions::default());
        let writer = sink.clone();
        let lines = json(move || writer.clone());
        let subscriber = tracing_subscriber::registry()
            .with(filter("info"))
            .with(Limited::new(lines, repetitions.clone()));
        tracing::subscriber::with_default(subscriber, || events(&repetitions));
        let text = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
        let line = |line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}"));
        text.lines().map(line).collect()
    }

    #[test]
    fn every_line_of_json_has_the_fields_that_all_have_and_its_own() {
        let lines = logged(|_| {
            tracing::info!(device = "a \"quoted\"\nname", vni = 7, "taking over");
            tracing::error!(code = "VXG-0801", error = %"why", "failed");
            tracing::debug!("not asked for");
        });
        assert_eq!(lines.len(), 2);
        for line in &lines {
            for field in ["timestamp", "level", "target", "message"] {
                assert!(line[field].is_string(), "{field}: {line}");
            }
            let time = line["timestamp"].as_str().unwrap();
            assert!(time.ends_with('Z') && time.contains('T'), "{time}");
        }
        assert_eq!(lines[0]["device"], "a \"quoted\"\nname");
        assert_eq!(lines[0]["vni"], 7);
        assert_eq!(lines[1]["level"], "ERROR");
        assert_eq!(lines[1]["code"], "VXG-0801");
        assert_eq!(lines[1]["error"], "why");
    }

    #[test]
    fn what_repeats_itself_is_counted_exactly_and_nothing_else_is_left_out() {
        let lines = logged(|repetitions| {
            for n in 0..17 {
                tracing::warn!(device = "eth1", "cannot hear");
                tracing::warn!(device = "eth2", n, "cannot hear");
            }
            tracing::error!(device = "eth1", "cannot hear");
            repetitions.tell_all();
            // And begins anew.
            tracing::warn!(device = "eth1", "cannot hear");
        });
        let of = |device: &str, level: &str| {
            let is_one = |line: &&Value| line["device"] == device && line["level"] == level;
            lines.iter().filter(is_one).count()
        };
        assert_eq!((of("eth1", "WARN"), of("eth2", "WARN")), (5 + 1, 17));
        assert_eq!(of("eth1", "ERROR"), 1);
        let told: Vec<_> = lines
            .iter()
            .filter(|line| line["repeated"].is_u64())
            .collect();
        assert_eq!(told.len(), 1, "{told:?}");
        assert_eq!(
            (&told[0]["repeated"], &told[0]["level"]),
            (&12.into(), &"WARN".into())
        );
        assert_eq!(
            told[0]["message"],
            "repeated 12 times: cannot hear device=\"eth1\""
        );
        assert_eq!(lines.len(), 6 + 17 + 1 + 1);
    }
}
