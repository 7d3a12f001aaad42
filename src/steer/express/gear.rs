//! The two gears of the direct path, and why a flow is in the lower one.

/// How a promoted flow's frames go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gear {
    /// Through the workers; in superframes from its pod, through the kernel's own vxlan device.
    Ring,
    /// Past them, where they can.
    Express,
}

/// Why a promoted flow is in the ring gear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InRing {
    /// No flow goes higher.
    Highest,
    /// Its pod sends superframes.
    Superframes,
    /// The same, and the kernel's own vxlan device would not send them as a worker does.
    SuperframesByWorkers,
}

impl InRing {
    /// In words.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Highest => "no flow goes express",
            Self::Superframes => {
                "its pod sends superframes, which the kernel's own vxlan device sends whole"
            }
            Self::SuperframesByWorkers => {
                "its pod sends superframes, which the workers take whole: the kernel's own vxlan device would not do the same"
            }
        }
    }
}
