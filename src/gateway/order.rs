//! What the operator asks of a running gateway. The thread that follows the devices does it, between two looks at them, so that
//! no order meets a takeover half-way.

use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvError, RecvTimeoutError, Sender, bounded, unbounded};

use super::session::Session;
use super::{Gateway, lock};
use crate::fault::{Explained, Fault};
use crate::table::Policy;

/// How long to wait for what has arrived to be forwarded; it takes microseconds, unless a worker hangs.
const RINGS_EMPTY: Duration = Duration::from_millis(500);
/// How often to look.
const LOOK: Duration = Duration::from_millis(2);
/// How long to wait for the workers to be told of a policy: the mirror may be in the midst of a long build.
const PUBLISHED: Duration = Duration::from_secs(5);

/// An order, and whoever waits for it to be done.
pub(super) enum Order {
    SetPolicy(Policy, Sender<()>),
    Drain(Sender<Drained>),
    Resume(Sender<Resumed>),
}

/// The traffic is the kernel's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drained {
    /// Whether it was not before.
    pub changed: bool,
    /// The devices whose frames go through vxgate but for this.
    pub devices: Vec<String>,
    /// Frames that have arrived and had no fate yet when the wait for them was over; 0 as a rule.
    pub in_flight: u64,
}

/// The traffic goes through vxgate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resumed {
    /// Whether it did not before.
    pub changed: bool,
    /// The devices whose frames do.
    pub devices: Vec<String>,
    /// Why there is none.
    pub trouble: Option<String>,
}

/// The gateway was told to stop before it came to this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the daemon is stopping: it does nothing new any more")]
pub struct Stopping;

impl Explained for Stopping {
    fn fault(&self) -> Fault {
        Fault::DaemonStopping
    }
}

/// A handle that gives orders from other threads, and waits until they are done.
#[derive(Clone)]
pub struct Orders(Sender<Order>);

impl Orders {
    /// A handle, and where its orders come out.
    pub(super) fn new() -> (Self, Receiver<Order>) {
        let (sender, receiver) = unbounded();
        (Self(sender), receiver)
    }

    /// Decides anew about every segment. Nothing is lost by it.
    ///
    /// # Errors
    /// When the gateway stops.
    pub fn set_policy(&self, policy: Policy) -> Result<(), Stopping> {
        self.give(|done| Order::SetPolicy(policy, done))
    }

    /// Hands the traffic to the kernel, until [`Orders::resume`]; returns when what had arrived has been forwarded.
    ///
    /// # Errors
    /// When the gateway stops.
    pub fn drain(&self) -> Result<Drained, Stopping> {
        self.give(Order::Drain)
    }

    /// Takes it back.
    ///
    /// # Errors
    /// When the gateway stops.
    pub fn resume(&self) -> Result<Resumed, Stopping> {
        self.give(Order::Resume)
    }

    fn give<T>(&self, order: impl FnOnce(Sender<T>) -> Order) -> Result<T, Stopping> {
        let (tell, told) = bounded(1);
        self.0.send(order(tell)).map_err(|_| Stopping)?;
        told.recv().map_err(|_| Stopping)
    }
}

impl Gateway {
    /// Does what the operator asks for: the moment at which to look at the devices again.
    pub(super) fn obey(&mut self, order: Result<Order, RecvError>, look_at: Instant) -> Instant {
        // Whoever gave the order may have gone away since.
        match order {
            Ok(Order::SetPolicy(policy, done)) => {
                self.set_policy(policy);
                let _ = done.send(());
            }
            Ok(Order::Drain(done)) => {
                let _ = done.send(self.drain());
            }
            Ok(Order::Resume(done)) => {
                let (resumed, look_at) = self.resume(look_at);
                let _ = done.send(resumed);
                return look_at;
            }
            // The gateway holds a sender, so the channel stays open.
            Err(RecvError) => {}
        }
        look_at
    }

    fn set_policy(&mut self, policy: Policy) {
        self.config.policy = policy;
        let mut state = lock(&self.shared);
        state.policy = policy;
        let in_force = state
            .session
            .as_mut()
            .map(|session| session.set_policy(policy));
        drop(state);
        let in_force = in_force.map(|in_force| in_force.recv_timeout(PUBLISHED));
        if in_force == Some(Err(RecvTimeoutError::Timeout)) {
            tracing::warn!("the workers go by the old policy for a while: the mirror is busy");
        }
    }

    fn drain(&self) -> Drained {
        let mut state = lock(&self.shared);
        let changed = !std::mem::replace(&mut state.drained, true);
        let mut devices = Vec::new();
        if let Some(session) = &state.session {
            session.set_drained(true);
            devices = session.device_names();
        }
        drop(state);
        let in_flight = self.wait_for_rings();
        if changed {
            tracing::info!(in_flight, "drained: the kernel carries the traffic");
        }
        Drained {
            changed,
            devices,
            in_flight,
        }
    }

    /// Waits until what has arrived is forwarded: how many frames are not when that takes too long.
    fn wait_for_rings(&self) -> u64 {
        let until = Instant::now() + RINGS_EMPTY;
        loop {
            let state = lock(&self.shared);
            let in_flight = state.session.as_ref().map_or(0, Session::in_flight);
            drop(state);
            if in_flight == 0 || Instant::now() >= until {
                return in_flight;
            }
            std::thread::sleep(LOOK);
        }
    }

    fn resume(&mut self, mut look_at: Instant) -> (Resumed, Instant) {
        let mut state = lock(&self.shared);
        let changed = std::mem::replace(&mut state.drained, false);
        if let Some(session) = &state.session {
            session.set_drained(false);
        }
        let idle = state.session.is_none();
        drop(state);
        if changed {
            tracing::info!("resumed: the traffic goes through vxgate");
        }
        if idle {
            look_at = self.follow();
        }
        let state = lock(&self.shared);
        let resumed = Resumed {
            changed,
            devices: state
                .session
                .as_ref()
                .map_or_else(Vec::new, Session::device_names),
            trouble: state.trouble.clone(),
        };
        (resumed, look_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_gives_an_order_to_one_that_stops_is_told_so() {
        let (orders, received) = Orders::new();
        let waiting = {
            let orders = orders.clone();
            std::thread::spawn(move || orders.drain())
        };
        // Received, and not obeyed any more.
        drop(received.recv().unwrap());
        assert_eq!(waiting.join().unwrap(), Err(Stopping));
        drop(received);
        assert_eq!(orders.resume(), Err(Stopping));
        assert_eq!(orders.set_policy(Policy::default()), Err(Stopping));
    }
}
