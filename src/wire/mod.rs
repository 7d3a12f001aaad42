//! Bytes seen as headers, and headers written as bytes. No I/O, no allocation, no `unsafe`.
//!
//! | file | RFC | fields | checked | left |
//! |---|---|---|---|---|
//! | [`ethernet`] | IEEE 802.3 | addresses, EtherType | length | 802.3 length fields: an EtherType like any other; frame check sequence |
//! | [`MacAddr`] | IEEE 802 §8 | all 48 bits, the group bit | – | the bit of local administration |
//! | [`vlan`] | IEEE 802.1Q, 802.1ad | EtherType behind the tags, at most [`vlan::TAGS_MAX`] | length | PCP, DEI and VID are carried, not read; the pre-standard tag types (0x9100) are EtherTypes like any other |
//! | [`ipv4`] | 791, 2474, 3168 | version, lengths, DSCP and ECN, DF, fragment bits, TTL, protocol, addresses; identification; DSCP and ECN, length and identification set, the header checksum adapted | length of the fixed part | options; version, lengths and header checksum are the caller's to judge |
//! | [`ipv6`] | 8200, 2474, 3168, 6437, 4302, 6275 | all of the fixed header; DSCP and ECN, and length set; extension headers skipped, a routing header told | length, at most [`ipv6::EXTENSIONS_MAX`] extensions that end within the packet | what extensions say (types of routing header, options: jumbograms of RFC 2675 among them); behind a fragment header; version and length are the caller's to judge |
//! | [`udp`] | 768 | all | length of the header | the length field and the checksum are the caller's to judge |
//! | [`tcp`] | 9293 | ports, sequence number, length, flags, checksum | length of the fixed part | acknowledgement, window, options; length and checksum are the caller's to judge |
//! | [`vxlan`] | 7348 §5 | I flag, VNI, reserved bits | length | GPE and remote checksum bits: reserved here |
//! | [`vnet`] | virtio 1.3 §5.1.6 | all that a TAP has: flags, kind and size of a superframe, checksum's place, tunnel offsets | length | number of buffers, hash; what the fields say is the caller's to judge |
//! | [`gbp`] | draft-smith-vxlan-group-policy | G, D, A, group policy ID | – | – |
//! | [`superframe`] | 9293, virtio 1.3 §5.1.6 | what a superframe of TCP is cut into, its header behind outer headers | every length against the frame | superframes of UDP |
//! | [`Vni`] | 7348 §5 | 24 bits | fits them | – |
//! | [`checksum`] | 1071, 1624; pseudo-headers 768, 9293, 8200 | sums of any bytes, and their adaptation to a changed word | – | – |
//! | [`crc32c`](mod@crc32c) | 9260 App. A | sums of any bytes | – | – |
//! | [`layers`] | as above | offset and kind of an inner frame's network header, its class, TTL, DF and flow label; protocol, offset and length of what it carries | version, and every length against the frame | headers within tunnels, MPLS, PPPoE |
//! | [`entropy`] | 7348 §5, 6335 | addresses, ports and protocol of the inner flow, as a hash | – | the IPv6 flow label is no part of the flow; fragments and other protocols count by their addresses |
//!
//! # No panic on any bytes
//!
//! A `parse` function judges that the header's fixed part is there, and returns `None` when it is not; the view it gives
//! cannot panic. Everything variable (offsets, lengths) goes through `get`, `first_chunk` and their like. Writing
//! functions leave a slice that is too short as it is.

pub mod checksum;
pub mod crc32c;
pub mod entropy;
pub mod ethernet;
pub mod gbp;
pub mod ipv4;
pub mod ipv6;
pub mod layers;
mod mac;
pub mod superframe;
pub mod tcp;
pub mod udp;
pub mod vlan;
pub mod vnet;
mod vni;
pub mod vxlan;

pub use mac::MacAddr;
pub use vni::{InvalidVni, Vni};

#[cfg(test)]
mod tests {
    /// The table in the module's text, and the modules that it is about.
    #[test]
    fn every_module_has_its_row() {
        let text = include_str!("mod.rs");
        let declared = text.lines().filter_map(|line| {
            let line = line.strip_prefix("pub ").unwrap_or(line);
            line.strip_prefix("mod ")?.strip_suffix(';')
        });
        let rows: Vec<_> = text
            .lines()
            .filter_map(|line| line.strip_prefix("//! | [`")?.split('`').next())
            .collect();
        let row_of = |module: &str| match module {
            "mac" => "MacAddr".to_owned(),
            "vni" => "Vni".to_owned(),
            other => other.to_owned(),
        };
        let mut expected: Vec<_> = declared.map(row_of).collect();
        assert!(expected.len() > 8, "{expected:?}");
        let mut found: Vec<_> = rows.iter().map(|row| (*row).to_owned()).collect();
        expected.sort();
        found.sort();
        assert_eq!(found, expected);
    }

    /// File, RFC, fields, what is checked, what is left.
    #[test]
    fn every_row_has_its_columns() {
        let rows = include_str!("mod.rs")
            .lines()
            .filter(|line| line.starts_with("//! | "));
        for row in rows {
            let cells: Vec<_> = row.trim_start_matches("//! ").split(" | ").collect();
            assert_eq!(cells.len(), 5, "{row}");
            assert!(cells.iter().all(|cell| !cell.trim().is_empty()), "{row}");
        }
    }
}
