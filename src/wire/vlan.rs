//! VLAN tags (IEEE 802.1Q, 802.1ad): four bytes between the addresses and the EtherType.

/// Length of one tag, in bytes.
pub const LEN: usize = 4;
/// Customer tag (802.1Q).
pub const CUSTOMER: u16 = 0x8100;
/// Service tag (802.1ad).
pub const SERVICE: u16 = 0x88a8;

/// How many tags are looked behind, as many as the kernel (`__vlan_get_protocol`). A frame with more is carried like any
/// other, its headers unread.
pub const TAGS_MAX: usize = 7;

/// Whether this EtherType announces a tag.
#[inline]
pub const fn is_tag(ether_type: u16) -> bool {
    matches!(ether_type, CUSTOMER | SERVICE)
}

/// Walks over the tags behind an Ethernet header with this EtherType: the EtherType behind the last one, how many there
/// were, and the bytes after them. `None` when a tag is cut short.
#[inline]
pub fn skip(ether_type: u16, bytes: &[u8]) -> Option<(u16, usize, &[u8])> {
    if is_tag(ether_type) {
        walk(ether_type, bytes)
    } else {
        Some((ether_type, 0, bytes))
    }
}

/// Apart, so that frames without tags carry no loop along.
#[inline(never)]
fn walk(mut ether_type: u16, mut bytes: &[u8]) -> Option<(u16, usize, &[u8])> {
    let mut tags = 0;
    while is_tag(ether_type) && tags < TAGS_MAX {
        let ([_, _, high, low], rest) = bytes.split_first_chunk::<LEN>()?;
        ether_type = u16::from_be_bytes([*high, *low]);
        bytes = rest;
        tags += 1;
    }
    Some((ether_type, tags, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn v08_tags_are_walked_over_and_no_more_than_the_kernel_does() {
        let bytes = [0, 100, 0x81, 0, 0x60, 10, 0x08, 0, 0x45];
        assert_eq!(skip(SERVICE, &bytes), Some((0x0800, 2, &bytes[8..])));
        assert_eq!(skip(CUSTOMER, &bytes[4..]), Some((0x0800, 1, &bytes[8..])));
        let mut many = [0, 1, 0x81, 0].repeat(8);
        many[26..28].copy_from_slice(&[0x08, 0]);
        assert_eq!(skip(CUSTOMER, &many), Some((0x0800, 7, &many[28..])));
        many[26..28].copy_from_slice(&[0x81, 0]);
        assert_eq!(skip(CUSTOMER, &many), Some((CUSTOMER, 7, &many[28..])));
    }

    #[test]
    fn an_untagged_frame_is_left_as_it_is() {
        assert_eq!(skip(0x0806, &[1, 2]), Some((0x0806, 0, &[1, 2][..])));
    }

    #[test]
    fn a_cut_tag_is_told() {
        assert_eq!(skip(CUSTOMER, &[0, 1, 8]), None);
    }
}
