//! `vxgate drops --last`: the last frames that died, from the workers' flight recorders. Text, JSON and pcapng come from the same
//! value.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, Write};
use std::time::Duration;

use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use pcap_file::{DataLink, PcapError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::SCHEMA;
use super::columns::ago;
use super::frame_words;
use crate::gateway::DroppedFrame;
use crate::stats::{DropReason, Shape};

/// Nanoseconds, as pcapng tells the resolution of its timestamps: those that `pcap-file` writes.
const NANOSECONDS: u8 = 9;

/// The answer to `drops --last`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LastDropped {
    /// [`SCHEMA`].
    pub schema: String,
    /// The last of each reason and direction, the latest of each first.
    pub frames: Vec<DroppedFrame>,
}

impl LastDropped {
    /// With these frames.
    pub fn new(frames: Vec<DroppedFrame>) -> Self {
        Self {
            schema: SCHEMA.to_owned(),
            frames,
        }
    }

    /// Those that died of one reason.
    #[must_use]
    pub fn of(mut self, reason: &str) -> Self {
        self.frames.retain(|frame| frame.reason == reason);
        self
    }

    /// The latest that died of this reason, in words; none when there is none on record.
    pub(super) fn example(&self, reason: &str) -> Option<String> {
        let frames = self.frames.iter();
        let frames = frames.filter(|frame| frame.reason == reason);
        let latest = frames.min_by_key(|frame| frame.age_ms)?;
        Some(frame_words::ends(
            &latest.first_bytes(),
            is_in_tunnel(latest),
        ))
    }

    /// Writes them as pcapng, an interface for each port, with what is to be said of a frame as its comment.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_pcapng(&self, to: impl Write) -> io::Result<()> {
        let mut writer = PcapNgWriter::new(to).map_err(io_error)?;
        let mut ports: Vec<&str> = Vec::new();
        for frame in &self.frames {
            if !ports.contains(&frame.port.as_str()) {
                ports.push(&frame.port);
                let interface = interface(&frame.port);
                let written = writer.write_pcapng_block(interface);
                written.map_err(io_error)?;
            }
        }
        let mut frames: Vec<_> = self.frames.iter().collect();
        frames.sort_by_key(|frame| frame.time_us);
        for frame in frames {
            let port = ports.iter().position(|port| **port == frame.port);
            let packet = EnhancedPacketBlock {
                interface_id: port.and_then(|port| u32::try_from(port).ok()).unwrap_or(0),
                timestamp: Duration::from_micros(frame.time_us),
                original_len: u32::try_from(frame.len).unwrap_or(u32::MAX),
                data: Cow::Owned(frame.first_bytes()),
                options: vec![EnhancedPacketOption::Comment(Cow::Owned(comment(frame)))],
            };
            let written = writer.write_pcapng_block(packet);
            written.map_err(io_error)?;
        }
        writer.get_mut().flush()
    }
}

fn io_error(error: PcapError) -> io::Error {
    match error {
        PcapError::IoError(error) => error,
        other => io::Error::other(other),
    }
}

fn interface(port: &str) -> InterfaceDescriptionBlock<'static> {
    InterfaceDescriptionBlock {
        linktype: DataLink::ETHERNET,
        snaplen: 0,
        options: vec![
            InterfaceDescriptionOption::IfName(Cow::Owned(port.to_owned())),
            InterfaceDescriptionOption::IfTsResol(NANOSECONDS),
        ],
    }
}

/// What is said of a frame in a capture.
fn comment(frame: &DroppedFrame) -> String {
    format!(
        "drop {} ({}), worker {}, {}",
        frame.reason,
        frame.direction,
        frame.worker,
        shape_words(frame)
    )
}

fn shape_words(frame: &DroppedFrame) -> &'static str {
    if frame.shape == Shape::Leaving.label() {
        "as it would have left"
    } else {
        "as it arrived"
    }
}

/// Whether the frame has outer headers.
fn is_in_tunnel(frame: &DroppedFrame) -> bool {
    (frame.direction == "rx") == (frame.shape == Shape::Arrived.label())
}

impl fmt::Display for LastDropped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for frame in &self.frames {
            writeln!(
                f,
                "{}  {}  {}  worker {}  {} ago  {} bytes {}",
                frame.reason,
                frame.direction,
                frame.port,
                frame.worker,
                ago(Some(frame.age_ms)),
                frame.len,
                shape_words(frame)
            )?;
            let bytes = frame.first_bytes();
            for line in frame_words::headers(&bytes, is_in_tunnel(frame)) {
                writeln!(f, "  {line}")?;
            }
            for line in frame_words::dump(&bytes).lines() {
                writeln!(f, "  {line}")?;
            }
        }
        if self.frames.is_empty() {
            writeln!(f, "no frame that died is on record")?;
        }
        let without: Vec<_> = DropReason::ALL
            .iter()
            .filter(|reason| !reason.has_frame())
            .map(|reason| reason.label())
            .collect();
        writeln!(
            f,
            "--\nof {} the kernel tells only how many there were",
            without.join(", ")
        )
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use pcap_file::pcapng::{Block, PcapNgReader};

    pub(in super::super) fn frame(reason: &str, port: &str, age_ms: u64) -> DroppedFrame {
        let bytes = "0200000000010200000000090800\
                     4500002e000040004011 0000 0a000963 0a00000d\
                     9c4021180 01a0000 0800000000000100\
                     4e8c1a001102 0a580af40307 0800";
        DroppedFrame {
            reason: reason.into(),
            direction: if port == "eth1" { "rx" } else { "tx" }.into(),
            port: port.into(),
            worker: 1,
            number: 3,
            time_us: 1_700_000_000_000_000 - age_ms * 1000,
            age_ms,
            shape: if port == "eth1" { "arrived" } else { "leaving" }.into(),
            len: 1450,
            bytes: bytes.replace(' ', ""),
        }
    }

    fn last() -> LastDropped {
        LastDropped::new(vec![
            frame("unknown_peer", "eth1", 1200),
            frame("unknown_peer", "eth1", 5000),
            frame("tx_ring_full", "flannel.1", 100),
        ])
    }

    #[test]
    fn the_text_has_words_and_bytes() {
        insta::assert_snapshot!(last());
        let none = last().of("oversize").to_string();
        assert!(none.starts_with("no frame that died is on record\n"));
    }

    #[test]
    fn the_example_is_the_latest() {
        let mut last = last();
        last.frames[1].bytes = String::new();
        let example = last.example("unknown_peer");
        let words = "10.0.9.99 vni 1: 0a:58:0a:f4:03:07 > 4e:8c:1a:00:11:02";
        assert_eq!(example.as_deref(), Some(words));
        assert_eq!(last.example("oversize"), None);
    }

    #[test]
    fn a_capture_has_every_frame_in_order_with_its_port_and_why_it_died() {
        let last = last();
        let mut file = Vec::new();
        last.write_pcapng(&mut file).unwrap();
        let mut reader = PcapNgReader::new(&file[..]).unwrap();
        let mut seen = Vec::new();
        while let Some(block) = reader.next_block() {
            if let Block::EnhancedPacket(packet) = block.unwrap().into_owned() {
                seen.push(packet);
            }
        }
        let names = reader.interfaces().iter().map(|interface| {
            let mut options = interface.options.iter();
            options.find_map(|option| match option {
                InterfaceDescriptionOption::IfName(name) => Some(name.to_string()),
                _ => None,
            })
        });
        let names: Vec<_> = names.map(Option::unwrap).collect();
        assert_eq!(names, ["eth1", "flannel.1"]);
        let order: Vec<_> = seen.iter().map(|packet| packet.interface_id).collect();
        assert_eq!(order, [0, 0, 1]);
        let comments: Vec<_> = seen.iter().flat_map(|packet| &packet.options).collect();
        let comment = |words: &str| EnhancedPacketOption::Comment(Cow::Owned(words.to_owned()));
        let first = comment("drop unknown_peer (rx), worker 1, as it arrived");
        let third = comment("drop tx_ring_full (tx), worker 1, as it would have left");
        assert_eq!(comments, [&first, &first, &third]);
        for (packet, frame) in seen.iter().zip([1, 0, 2].map(|at| &last.frames[at])) {
            assert_eq!(packet.data, frame.first_bytes());
            assert_eq!(packet.timestamp, Duration::from_micros(frame.time_us));
            assert_eq!(packet.original_len, 1450);
        }
    }
}
