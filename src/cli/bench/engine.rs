//! What flags say for an engine and a receiver.

use clap::ValueEnum;

use crate::loadgen::engine::{EngineKind, ReceiverKind};

/// How frames are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Engine {
    /// AF_XDP where it is zero-copy, else live frames, else AF_XDP; the report says which, and why.
    Auto,
    /// Frames made by a BPF program and handed over as a driver would.
    Live,
    /// An AF_XDP socket.
    Afxdp,
}

impl From<Engine> for EngineKind {
    fn from(engine: Engine) -> Self {
        match engine {
            Engine::Auto => Self::Auto,
            Engine::Live => Self::Live,
            Engine::Afxdp => Self::Afxdp,
        }
    }
}

/// How frames are received.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Receives {
    /// Counted in the kernel by an XDP program, which judges by the frames' signatures.
    Xdp,
    /// Taken to this program through AF_XDP, on all queues of the device, and inspected in full: every header, checksum and
    /// byte of payload, reported by kind. It bears less than xdp: a trial in which it could not keep up is void. Latency
    /// then includes the way to this program.
    Afxdp,
}

impl From<Receives> for ReceiverKind {
    fn from(receives: Receives) -> Self {
        match receives {
            Receives::Xdp => Self::Xdp,
            Receives::Afxdp => Self::Afxdp,
        }
    }
}
