//! The engines: what sends a load, and what receives it.
//!
//! Both ends follow one account. A generator hands frames over at the times intended for them, and says how many. A receiver
//! says what arrived. What is in between, and nothing else, explains the difference.

mod afxdp;
mod control;
mod device;
mod error;
mod frame;
mod inspect;
mod inspection;
mod latency;
mod layout;
mod listener;
mod live;
mod load;
mod object;
mod pace;
mod program;
mod received;
mod receiver;
mod replay;
mod select;
mod sink;
mod socket;
mod source;
mod tally;

pub use afxdp::AfxdpGenerator;
pub use control::Control;
pub use device::Device;
pub use error::EngineError;
pub use frame::{Tag, write_frame};
pub use inspect::{Inspected, inspect};
pub use inspection::Inspection;
pub use latency::histogram;
pub use listener::AfxdpListener;
pub use live::LiveGenerator;
pub use load::{Generator, Load, Sent, StreamLoad};
pub use received::{Expectations, Received, StreamReceived};
pub use receiver::{Receiver, ReceiverKind, XdpMode};
pub use replay::{Replay, Timing};
pub use select::{Choice, EngineKind, Opened, open};
pub use sink::Sink;
pub use tally::Tally;

/// The most streams of a load.
pub const STREAMS_MAX: usize = 16;

/// Makes the calling thread one that sends: on its core, if one is named, and before other programs there.
fn become_sender(core: Option<usize>) -> Result<(), EngineError> {
    prefer();
    pin(core)
}

/// Whoever shares the core with this thread takes it away for milliseconds at a time: two busy programs there raised the
/// share of intended times that a busy machine missed from 0.48 to 0.86 at 40,000 frames/s, with precedence only to 0.52.
/// Programs of other sessions keep their share all the same where the kernel divides time by session (`sched_autogroup`).
/// Without the right to it (CAP_SYS_NICE), the thread goes on as it is: what it cannot keep is counted.
fn prefer() {
    /// `nice` -20; 0 is this thread.
    const FIRST: i32 = -20;
    rustix::process::setpriority_process(None, FIRST).ok();
}

fn pin(core: Option<usize>) -> Result<(), EngineError> {
    let Some(id) = core else {
        return Ok(());
    };
    let core = core_affinity::CoreId { id };
    let there = core_affinity::get_core_ids().is_some_and(|all| all.contains(&core));
    if !there || !core_affinity::set_for_current(core) {
        return Err(EngineError::Plan(format!(
            "there is no core {id} that this process may run on"
        )));
    }
    Ok(())
}
