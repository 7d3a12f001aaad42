//! The engines: what sends a load, and what receives it.
//!
//! Both ends follow one account. A generator hands frames over at the times intended for them, and says how many. A sink
//! says what arrived. What is in between, and nothing else, explains the difference.

mod afxdp;
mod control;
mod device;
mod error;
mod frame;
mod latency;
mod layout;
mod live;
mod load;
mod object;
mod pace;
mod program;
mod select;
mod sink;

pub use afxdp::AfxdpGenerator;
pub use control::Control;
pub use device::Device;
pub use error::EngineError;
pub use frame::{Tag, write_frame};
pub use latency::histogram;
pub use live::LiveGenerator;
pub use load::{Generator, Load, Sent, StreamLoad};
pub use select::{Choice, EngineKind, Opened, open};
pub use sink::{Expectations, Received, Sink, StreamReceived, XdpMode};

/// The most streams of a load.
pub const STREAMS_MAX: usize = 16;

/// Pins the calling thread to a core, if one is named.
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
