//! Passes events on, but not for ever the same: the first few of a minute, and at its end how many there were beyond them,
//! whether or not anything else is logged by then.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::repeats::{LeftOut, Repeats, Said};

/// A layer that hands events to another one.
pub(super) struct Limited<L> {
    inner: L,
    repetitions: Repetitions,
}

/// What has been said of late, for the layer and for whoever tells of what it left out.
#[derive(Clone, Default)]
pub(super) struct Repetitions(Arc<Shared>);

#[derive(Default)]
struct Shared {
    repeats: Mutex<Repeats>,
    /// The first of its kind was left out.
    left_out: Condvar,
}

impl<L> Limited<L> {
    pub(super) fn new(inner: L, repetitions: Repetitions) -> Self {
        Self { inner, repetitions }
    }
}

impl<S: Subscriber, L: Layer<S>> Layer<S> for Limited<L> {
    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        // What is told of repetitions comes here, too.
        if event.metadata().target() == module_path!() {
            return self.inner.on_event(event, context);
        }
        let judged = self
            .repetitions
            .lock()
            .judge(Said::by(event), Instant::now());
        judged.over.iter().for_each(tell);
        if judged.passes {
            self.inner.on_event(event, context);
        } else {
            self.repetitions.0.left_out.notify_one();
        }
    }
}

impl Repetitions {
    /// Starts a thread that tells in time what is left out. It sleeps as long as nothing is.
    ///
    /// # Errors
    /// When no thread can be had.
    pub(super) fn tell_in_time(&self) -> io::Result<()> {
        let repetitions = self.clone();
        thread::Builder::new()
            .name("vxgate-log".into())
            .spawn(move || repetitions.watch())
            .map(drop)
    }

    /// Tells all that has been left out so far.
    pub(super) fn tell_all(&self) {
        let left_out = self.lock().take_all();
        left_out.iter().for_each(tell);
    }

    fn watch(&self) {
        let mut repeats = self.lock();
        loop {
            let due = repeats.take_due(Instant::now());
            if !due.is_empty() {
                // Telling takes the lock.
                drop(repeats);
                due.iter().for_each(tell);
                repeats = self.lock();
                continue;
            }
            let left_out = &self.0.left_out;
            repeats = match repeats.due_at() {
                Some(at) => {
                    let patience = at.saturating_duration_since(Instant::now());
                    let woken = left_out.wait_timeout(repeats, patience);
                    woken.unwrap_or_else(PoisonError::into_inner).0
                }
                None => left_out
                    .wait(repeats)
                    .unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    fn lock(&self) -> MutexGuard<'_, Repeats> {
        self.0
            .repeats
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells what was left out, as loudly as it would have been said.
fn tell(left_out: &LeftOut) {
    let LeftOut { said, count } = left_out;
    let (words, from) = (&said.words, said.target);
    match said.level {
        Level::ERROR => tracing::error!(repeated = count, from, "repeated {count} times: {words}"),
        Level::WARN => tracing::warn!(repeated = count, from, "repeated {count} times: {words}"),
        Level::INFO => tracing::info!(repeated = count, from, "repeated {count} times: {words}"),
        Level::DEBUG => tracing::debug!(repeated = count, from, "repeated {count} times: {words}"),
        Level::TRACE => tracing::trace!(repeated = count, from, "repeated {count} times: {words}"),
    }
}
