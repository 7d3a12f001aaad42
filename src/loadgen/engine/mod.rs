//! The engines: what sends a load, and what receives it.
//!
//! Both ends follow one account. A generator hands frames over at the times intended for them, and says how many. A sink
//! says what arrived. What is in between, and nothing else, explains the difference.

mod afxdp;
mod device;
mod error;
mod frame;
mod latency;
mod layout;
mod live;
mod load;
mod object;
mod pace;
mod sink;

pub use afxdp::AfxdpGenerator;
pub use device::Device;
pub use error::EngineError;
pub use frame::{Tag, write_frame};
pub use latency::histogram;
pub use live::LiveGenerator;
pub use load::{Generator, Load, Sent, StreamLoad};
pub use sink::{Expectations, Received, Sink, StreamReceived, XdpMode};

/// The most streams of a load.
pub const STREAMS_MAX: usize = 16;
