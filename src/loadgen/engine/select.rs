//! Which engine sends on a device, and why that one.

use super::{AfxdpGenerator, EngineError, Generator, LiveGenerator};

/// What a user may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EngineKind {
    /// The one that offers more on this device.
    #[default]
    Auto,
    /// Live frames of a BPF program.
    Live,
    /// An AF_XDP socket.
    Afxdp,
}

impl EngineKind {
    /// The word for it, as in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Live => "live",
            Self::Afxdp => "afxdp",
        }
    }
}

/// Where and what a generator is to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Choice {
    /// What was asked for.
    pub kind: EngineKind,
    /// The device, of this thread's network namespace.
    pub ifindex: u32,
    /// Its queue, for an AF_XDP socket.
    pub queue: u32,
    /// The core that the sending thread is pinned to.
    pub core: Option<usize>,
    /// The longest frame that will be sent, in bytes without FCS.
    pub len_max: usize,
}

/// A generator that can start.
pub struct Opened {
    /// It.
    pub generator: Box<dyn Generator + Send>,
    /// Which: never [`EngineKind::Auto`].
    pub kind: EngineKind,
    /// Why this one, as a phrase.
    pub why: String,
}

/// Opens a generator. Left to choose, it takes AF_XDP where it is zero-copy, else live frames, else AF_XDP all the same.
///
/// # Errors
/// Those of the engine that was asked for; left to choose, those of AF_XDP, which is possible on more devices.
pub fn open(choice: &Choice) -> Result<Opened, EngineError> {
    match choice.kind {
        EngineKind::Live => Ok(live(choice)?.because("asked for".to_owned())),
        EngineKind::Afxdp => {
            let socket = socket(choice)?;
            let why = format!("asked for, {}", copies(&socket));
            Ok(afxdp(socket).because(why))
        }
        EngineKind::Auto => choose(choice),
    }
}

fn choose(choice: &Choice) -> Result<Opened, EngineError> {
    let socket = socket(choice);
    if socket.as_ref().is_ok_and(AfxdpGenerator::zero_copy) {
        return Ok(afxdp(socket?).because("the device has zero-copy AF_XDP".to_owned()));
    }
    let why_not = if choice.len_max > LiveGenerator::FRAME_MAX {
        format!(
            "frames of {} bytes are too long for live ones",
            choice.len_max
        )
    } else {
        match live(choice) {
            Ok(live) => {
                let why = "no zero-copy AF_XDP here, and live frames are several times cheaper than copied ones";
                return Ok(live.because(why.to_owned()));
            }
            Err(error) => format!("live frames are not possible: {error}"),
        }
    };
    Ok(afxdp(socket?).because(why_not))
}

fn copies(socket: &AfxdpGenerator) -> &'static str {
    if socket.zero_copy() {
        "zero-copy"
    } else {
        "the kernel copies every frame"
    }
}

fn socket(choice: &Choice) -> Result<AfxdpGenerator, EngineError> {
    AfxdpGenerator::open(choice.ifindex, choice.queue, choice.core)
}

fn live(choice: &Choice) -> Result<Opened, EngineError> {
    let generator = LiveGenerator::open(choice.ifindex, choice.core)?;
    Ok(Opened {
        generator: Box::new(generator),
        kind: EngineKind::Live,
        why: String::new(),
    })
}

fn afxdp(socket: AfxdpGenerator) -> Opened {
    Opened {
        generator: Box::new(socket),
        kind: EngineKind::Afxdp,
        why: String::new(),
    }
}

impl Opened {
    fn because(self, why: String) -> Self {
        Self { why, ..self }
    }
}
