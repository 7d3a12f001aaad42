//! What receives: the sink in the kernel, or a listener that takes every frame to user space. Both mean the same by what they
//! count (`received.rs`).

use std::os::fd::BorrowedFd;

use libbpf_rs::{Xdp, XdpFlags};

use super::received::{Expectations, Received};
use super::{AfxdpListener, EngineError, Sink};

/// What receives.
pub trait Receiver {
    /// What has arrived by now. Frames that arrive meanwhile may be in some of the numbers and not in others: let the wire
    /// drain first.
    ///
    /// # Errors
    /// When the kernel does not tell, or the receiver has stopped.
    fn read(&self) -> Result<Received, EngineError>;

    /// Forgets all that arrived. Do it before each run, while nothing arrives: sequence numbers start anew with a run, and
    /// would be those of copies.
    ///
    /// # Errors
    /// As [`Receiver::read`].
    fn reset(&mut self) -> Result<(), EngineError>;

    /// By number of stream, how many of its frames must have left: the highest sequence number that has arrived, plus one.
    ///
    /// # Errors
    /// As [`Receiver::read`].
    fn reached(&self) -> Result<Vec<u64>, EngineError>;

    /// How its program runs on its device.
    ///
    /// # Errors
    /// When the kernel does not say.
    fn mode(&self) -> Result<XdpMode, EngineError>;

    /// Which receiver this is, and how it gets its frames, as a phrase.
    fn name(&self) -> &'static str;
}

/// Which receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReceiverKind {
    /// The sink in the kernel.
    #[default]
    Xdp,
    /// AF_XDP sockets and a thread that reads them.
    Afxdp,
}

impl ReceiverKind {
    /// Sets one up on a device of this thread's network namespace. `core` is that of the thread, where there is one.
    ///
    /// # Errors
    /// When the kernel or the device refuses it, or the expectations contradict themselves.
    pub fn attach(
        self,
        ifindex: u32,
        expectations: &Expectations,
        core: Option<usize>,
    ) -> Result<Box<dyn Receiver + Send + Sync>, EngineError> {
        Ok(match self {
            Self::Xdp => Box::new(Sink::attach(ifindex, expectations)?),
            Self::Afxdp => Box::new(AfxdpListener::attach(ifindex, expectations, core)?),
        })
    }
}

/// How the program runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum XdpMode {
    /// In the driver.
    Native,
    /// In the kernel's stack, for any driver: several times slower.
    Generic,
    /// Not attached.
    Detached,
}

impl XdpMode {
    /// Of a program on a device of this thread's network namespace.
    pub(super) fn of(program: BorrowedFd<'_>, ifindex: u32) -> Result<Self, EngineError> {
        /// `XDP_ATTACHED_SKB` of `linux/if_link.h`.
        const XDP_ATTACHED_SKB: u8 = 2;
        let query = Xdp::new(program).query(ifindex as i32, XdpFlags::NONE);
        Ok(
            match query.map_err(EngineError::map("the XDP mode"))?.attach_mode {
                XDP_ATTACHED_SKB => Self::Generic,
                _ => Self::Native,
            },
        )
    }

    /// The word for it, as in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
            Self::Detached => "detached",
        }
    }
}
