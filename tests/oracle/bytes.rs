//! Frames written down by hand, byte by byte: a second opinion on every header, which shares no code with `vxgate`.

/// Offsets into a frame of the underlay.
pub const IP: usize = 14;
pub const UDP: usize = 34;
pub const VXLAN: usize = 42;

pub const ETHER_IPV4: u16 = 0x0800;
pub const ETHER_ARP: u16 = 0x0806;
pub const ETHER_IPV6: u16 = 0x86dd;

/// The field of an Internet checksum over these bytes.
pub fn internet_checksum(parts: &[&[u8]]) -> u16 {
    !partial_sum(parts)
}

/// The folded, not inverted sum; each part must be of even length, but for the last.
pub fn partial_sum(parts: &[&[u8]]) -> u16 {
    let mut sum: u64 = 0;
    for part in parts {
        let (words, rest) = part.as_chunks::<4>();
        for word in words {
            sum += u64::from(u32::from_be_bytes(*word));
        }
        let mut last = [0; 4];
        last[..rest.len()].copy_from_slice(rest);
        sum += u64::from(u32::from_be_bytes(last));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// CRC32c, half a byte at a time.
pub fn crc32c(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 16] = {
        let (mut table, mut index) = ([0; 16], 0);
        while index < 16 {
            let (mut value, mut bit) = (index as u32, 0);
            while bit < 4 {
                value = value >> 1 ^ if value & 1 == 1 { 0x82f6_3b78 } else { 0 };
                bit += 1;
            }
            table[index] = value;
            index += 1;
        }
        table
    };
    let mut crc = !0u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        crc = crc >> 4 ^ TABLE[(crc & 15) as usize];
        crc = crc >> 4 ^ TABLE[(crc & 15) as usize];
    }
    !crc
}

pub fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    let pair = bytes.get(at..at + 2)?;
    Some(u16::from_be_bytes([pair[0], pair[1]]))
}

pub fn put16(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

/// All headers of a frame fit in front of this, in bytes; behind it the generator has nothing but payload.
const SHOWN_LEN: usize = 288;

pub fn hex(bytes: &[u8]) -> String {
    let shown = &bytes[..bytes.len().min(SHOWN_LEN)];
    let lines: Vec<String> = shown
        .chunks(32)
        .enumerate()
        .map(|(line, chunk)| {
            let words: Vec<String> = chunk
                .chunks(2)
                .map(|pair| pair.iter().map(|byte| format!("{byte:02x}")).collect())
                .collect();
            format!("    {:04x}  {}", line * 32, words.join(" "))
        })
        .collect();
    match bytes.len() - shown.len() {
        0 => lines.join("\n"),
        more => format!(
            "{}\n    and {more} bytes, CRC32c {:08x}",
            lines.join("\n"),
            crc32c(bytes)
        ),
    }
}

/// What an independent decoder makes of a frame, outer headers and inner.
pub fn summary(frame: &[u8]) -> String {
    let decoded = match etherparse::LaxSlicedPacket::from_ethernet(frame) {
        Ok(packet) => format!(
            "{:?} vlan {:?} net {} transport {} stop {:?}",
            packet
                .link
                .as_ref()
                .and_then(|link| link.to_header().map(|h| h.ethernet2())),
            packet.vlan_ids(),
            packet
                .net
                .as_ref()
                .map_or("none".to_owned(), |net| match net {
                    etherparse::LaxNetSlice::Ipv4(ip) => format!("{:?}", ip.header().to_header()),
                    etherparse::LaxNetSlice::Ipv6(ip) => format!("{:?}", ip.header().to_header()),
                    other => format!("{other:?}"),
                }),
            packet
                .transport
                .as_ref()
                .map_or("none".to_owned(), |transport| match transport {
                    etherparse::TransportSlice::Udp(udp) => format!("{:?}", udp.to_header()),
                    etherparse::TransportSlice::Tcp(tcp) =>
                        format!("TCP {} > {}", tcp.source_port(), tcp.destination_port()),
                    _ => "ICMP".to_owned(),
                }),
            packet.stop_err,
        ),
        Err(error) => format!("not decodable: {error}"),
    };
    match super::outer::inner_of(frame) {
        Some(inner) => format!("{decoded}\n      inner: {}", summary(inner)),
        None => decoded,
    }
}

/// An inner frame.
#[derive(Debug, Clone)]
pub struct Inner {
    pub destination: [u8; 6],
    pub source: [u8; 6],
    /// VLAN tags as on the wire: TPID and TCI.
    pub tags: Vec<(u16, u16)>,
    pub ether_type: u16,
    pub payload: Vec<u8>,
}

impl Inner {
    /// From a host behind the first peer to the host on the overlay port.
    pub fn with(ether_type: u16, payload: Vec<u8>) -> Self {
        Self {
            destination: super::site::HOST_MAC,
            source: super::site::REMOTE_MACS[0],
            tags: Vec::new(),
            ether_type,
            payload,
        }
    }

    /// The same from the overlay's host to the one behind the first peer.
    pub fn outbound(mut self) -> Self {
        std::mem::swap(&mut self.destination, &mut self.source);
        self
    }

    pub fn tagged(mut self, tags: &[(u16, u16)]) -> Self {
        self.tags = tags.to_vec();
        self
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut frame = Vec::new();
        frame.extend(self.destination);
        frame.extend(self.source);
        for (tpid, tci) in &self.tags {
            frame.extend(tpid.to_be_bytes());
            frame.extend(tci.to_be_bytes());
        }
        frame.extend(self.ether_type.to_be_bytes());
        frame.extend(&self.payload);
        frame
    }
}

/// An IPv4 header without options and what it carries.
pub fn ipv4(tos: u8, ttl: u8, fragment: u16, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x45, tos];
    for word in [20 + payload.len() as u16, 0x4321, fragment] {
        packet.extend(word.to_be_bytes());
    }
    packet.extend([ttl, protocol, 0, 0, 10, 244, 1, 2, 10, 244, 2, 3]);
    let sum = internet_checksum(&[&packet]);
    put16(&mut packet, 10, sum);
    packet.extend(payload);
    packet
}

/// Puts other addresses into an IPv4 header without options.
pub fn address(packet: &mut [u8], from: [u8; 4], to: [u8; 4]) {
    packet[12..16].copy_from_slice(&from);
    packet[16..20].copy_from_slice(&to);
    put16(packet, 10, 0);
    let sum = internet_checksum(&[&packet[..20]]);
    put16(packet, 10, sum);
}

/// An IPv6 header and what it carries.
pub fn ipv6(class: u8, hop_limit: u8, next_header: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60 | class >> 4, class << 4, 0x12, 0x34];
    packet.extend((payload.len() as u16).to_be_bytes());
    packet.extend([next_header, hop_limit]);
    packet.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    packet.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
    packet.extend(payload);
    packet
}

/// A UDP datagram without a checksum.
pub fn udp(payload: &[u8]) -> Vec<u8> {
    let mut datagram = Vec::new();
    for word in [40_000, 9, 8 + payload.len() as u16, 0] {
        datagram.extend(word.to_be_bytes());
    }
    datagram.extend(payload);
    datagram
}

/// An ARP request.
pub fn arp() -> Vec<u8> {
    let mut request = vec![0, 1, 8, 0, 6, 4, 0, 1];
    request.extend(super::site::REMOTE_MACS[0]);
    request.extend([10, 244, 1, 2, 0, 0, 0, 0, 0, 0, 10, 244, 2, 3]);
    request
}
