//! The frames of a file, by pcap-file's hand.

use pcap_file::pcap::PcapParser;
use pcap_file::pcapng::blocks::interface_description::InterfaceDescriptionOption;
use pcap_file::pcapng::{Block, PcapNgParser};
use pcap_file::{DataLink, PcapError, TsResolution};

/// The block type of a pcapng section, alike in both byte orders.
const PCAPNG_MAGIC: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];

/// A frame as it stands in the file.
pub struct Captured<'a> {
    /// As many as were kept.
    pub bytes: &'a [u8],
    /// Its length on the wire: more than there are bytes when it was cut off.
    pub original_len: u32,
    /// Since 1970.
    pub at_ns: u64,
}

/// Goes through the frames of a pcap or pcapng file.
///
/// # Errors
/// Says what is wrong with it, and from which frame on.
pub fn each_frame(bytes: &[u8], mut take: impl FnMut(Captured<'_>)) -> Result<(), String> {
    let mut count = 0_u64;
    let counted = |captured: Captured<'_>| {
        count += 1;
        take(captured);
    };
    let outcome = if bytes.starts_with(&PCAPNG_MAGIC) {
        pcapng(bytes, counted)
    } else {
        pcap(bytes, counted)
    };
    outcome.map_err(|wrong| match wrong {
        Wrong::Nothing => "neither a pcap nor a pcapng file".to_owned(),
        Wrong::Link(link) => {
            format!("its frames are {link:?}: only recordings of Ethernet can be used")
        }
        Wrong::Damaged(PcapError::IncompleteBuffer) => format!("cut off behind frame {count}"),
        Wrong::Damaged(error) => format!("damaged behind frame {count}: {error}"),
    })
}

enum Wrong {
    /// Of no kind that is known.
    Nothing,
    Link(DataLink),
    Damaged(PcapError),
}

impl From<PcapError> for Wrong {
    fn from(error: PcapError) -> Self {
        Self::Damaged(error)
    }
}

fn ethernet(link: DataLink) -> Result<(), Wrong> {
    match link {
        DataLink::ETHERNET => Ok(()),
        other => Err(Wrong::Link(other)),
    }
}

fn pcap(bytes: &[u8], mut take: impl FnMut(Captured<'_>)) -> Result<(), Wrong> {
    let (mut rest, parser) = PcapParser::new(bytes).map_err(|_| Wrong::Nothing)?;
    ethernet(parser.header().datalink)?;
    let unit_ns = match parser.header().ts_resolution {
        TsResolution::MicroSecond => 1000,
        TsResolution::NanoSecond => 1,
    };
    while !rest.is_empty() {
        let (behind, packet) = parser.next_raw_packet(rest)?;
        rest = behind;
        take(Captured {
            at_ns: u64::from(packet.ts_sec) * 1_000_000_000 + u64::from(packet.ts_frac) * unit_ns,
            original_len: packet.orig_len,
            bytes: &packet.data,
        });
    }
    Ok(())
}

fn pcapng(bytes: &[u8], mut take: impl FnMut(Captured<'_>)) -> Result<(), Wrong> {
    let (mut rest, mut parser) = PcapNgParser::new(bytes)?;
    while !rest.is_empty() {
        let (behind, block) = parser.next_block(rest)?;
        rest = behind;
        let Block::EnhancedPacket(packet) = block else {
            continue;
        };
        let id = packet.interface_id;
        let interface = parser.interfaces().get(id as usize);
        let interface = interface.ok_or(PcapError::InvalidInterfaceId(id))?;
        ethernet(interface.linktype)?;
        let resolution = interface.options.iter().find_map(|option| match option {
            InterfaceDescriptionOption::IfTsResol(resolution) => Some(*resolution),
            _ => None,
        });
        take(Captured {
            // pcap-file takes the number for nanoseconds, whatever it counts.
            at_ns: to_ns(packet.timestamp.as_nanos(), resolution),
            original_len: packet.original_len,
            bytes: &packet.data,
        });
    }
    Ok(())
}

/// `if_tsresol`: a negative power of 10, or of 2 with the highest bit set; without it, microseconds.
fn to_ns(units: u128, resolution: Option<u8>) -> u64 {
    let resolution = resolution.unwrap_or(6);
    let exponent = u32::from(resolution & 0x7f);
    let base: u128 = if resolution & 0x80 == 0 { 10 } else { 2 };
    let ns = match base.checked_pow(exponent) {
        Some(units_a_second) => units.saturating_mul(1_000_000_000) / units_a_second,
        // Finer than anything that 64 bits can count.
        None => 0,
    };
    u64::try_from(ns).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::to_ns;

    #[test]
    fn every_resolution_is_nanoseconds() {
        assert_eq!(to_ns(1_500_000, None), 1_500_000_000);
        assert_eq!(to_ns(1_500_000_000, Some(9)), 1_500_000_000);
        assert_eq!(to_ns(3, Some(0)), 3_000_000_000);
        assert_eq!(to_ns(1 << 31, Some(0x80 | 32)), 500_000_000);
        assert_eq!(to_ns(u128::from(u64::MAX), Some(0)), u64::MAX);
        assert_eq!(to_ns(u128::from(u64::MAX), Some(0x7f)), 0);
    }
}
