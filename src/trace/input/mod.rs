//! Frames to be traced, as people have them: hexadecimal digits, a recording, or a description.

mod described;
mod hex;
mod words;

pub use described::{Described, describe};
pub use hex::read_hex;
pub use words::KEYS;

use crate::fault::{Explained, Fault};

/// The longest frame, in bytes: what a superframe could be.
pub const FRAME_LEN_MAX: usize = 1 << 16;

/// Why there is no frame.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InputError {
    /// The digits are none.
    #[error("the hexadecimal digits of the frame cannot be read: {0}")]
    Hex(String),
    /// The description says what cannot be.
    #[error("the description of the frame cannot be: {0}")]
    Description(String),
}

impl Explained for InputError {
    fn fault(&self) -> Fault {
        match self {
            Self::Hex(_) => Fault::FrameUnreadable,
            Self::Description(_) => Fault::FrameUndescribed,
        }
    }
}

#[cfg(test)]
mod tests;
