//! Frames as pcapng: an interface for every point of every port, named so that Wireshark shows both sides of the tunnel, and what
//! became of a frame as its comment.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::Duration;

use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use pcap_file::pcapng::blocks::section_header::{SectionHeaderBlock, SectionHeaderOption};
use pcap_file::pcapng::{PcapNgBlock, PcapNgWriter};
use pcap_file::{DataLink, Endianness, PcapError};

use crate::show::{CapturedFrame, Told};
use crate::stats::tap::Point;

/// Nanoseconds, as a power of ten.
const RESOLUTION: u8 = 9;
/// Bytes of a section without interfaces, more or less: what counts is the frames.
const BEGINNING: u64 = 64;

/// A section, as it is written.
pub(super) struct Pcapng<W: Write> {
    writer: PcapNgWriter<W>,
    /// By the points and the devices' indexes.
    interfaces: BTreeMap<(Point, u32), u32>,
    snaplen: u32,
    bytes: u64,
}

impl<W: Write> Pcapng<W> {
    /// Begins one, of frames that are cut to `snaplen` bytes.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn new(out: W, snaplen: u32) -> io::Result<Self> {
        let program = concat!("vxgate ", env!("CARGO_PKG_VERSION"));
        let section = SectionHeaderBlock {
            endianness: Endianness::native(),
            options: vec![SectionHeaderOption::UserApplication(Cow::Borrowed(program))],
            ..SectionHeaderBlock::default()
        };
        Ok(Self {
            writer: PcapNgWriter::with_section_header(out, section).map_err(io_error)?,
            interfaces: BTreeMap::new(),
            snaplen,
            bytes: BEGINNING,
        })
    }

    /// Writes a frame.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn write(&mut self, frame: &CapturedFrame, told: &Told<'_>) -> io::Result<()> {
        let place = (frame.point, frame.port);
        let interface_id = match self.interfaces.get(&place) {
            Some(id) => *id,
            None => self.interface(place, &told.port())?,
        };
        let kept = frame.bytes.get(..self.snaplen as usize);
        // Inbound, outbound.
        let direction = match frame.point {
            Point::UnderlayRx | Point::AccessRx => 1,
            Point::UnderlayTx | Point::AccessTx => 2,
            Point::Drop => 0,
        };
        let packet = EnhancedPacketBlock {
            interface_id,
            timestamp: Duration::from_nanos(frame.time_ns),
            original_len: frame.len,
            data: Cow::Borrowed(kept.unwrap_or(&frame.bytes)),
            options: vec![
                EnhancedPacketOption::Comment(told.comment().into()),
                EnhancedPacketOption::Flags(direction),
            ],
        };
        self.put(packet)
    }

    fn interface(&mut self, place: (Point, u32), port: &str) -> io::Result<u32> {
        let name = format!("{} {port}", place.0.label());
        self.put(InterfaceDescriptionBlock {
            linktype: DataLink::ETHERNET,
            snaplen: self.snaplen,
            options: vec![
                InterfaceDescriptionOption::IfName(name.into()),
                InterfaceDescriptionOption::IfTsResol(RESOLUTION),
            ],
        })?;
        let id = self.interfaces.len() as u32; // As many as there are points and devices.
        self.interfaces.insert(place, id);
        Ok(id)
    }

    fn put<'a>(&mut self, block: impl PcapNgBlock<'a>) -> io::Result<()> {
        let block = block.into_block();
        self.bytes += self.writer.write_block(&block).map_err(io_error)? as u64;
        Ok(())
    }

    /// What has been written so far.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Hands on all that has been written.
    ///
    /// # Errors
    /// When that cannot be.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.writer.get_mut().flush()
    }
}

fn io_error(error: PcapError) -> io::Error {
    match error {
        PcapError::IoError(error) => error,
        other => io::Error::other(other),
    }
}
