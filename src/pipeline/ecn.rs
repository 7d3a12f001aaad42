//! Explicit congestion notification through the tunnel (RFC 6040): the two low bits of TOS and traffic class.

use crate::table::EcnEncap;

/// The two bits.
pub(super) const MASK: u8 = 0b11;
const NOT_ECT: u8 = 0b00;
const ECT_1: u8 = 0b01;
const ECT_0: u8 = 0b10;
const CE: u8 = 0b11;

/// The outer bits for a frame whose inner header has `inner` (0 where it is not IP). The kernel
/// (`INET_ECN_encapsulate`) copies, but sends ECT(0) for CE; RFC 6040 §4.1 copies CE too; the far end sees CE either way,
/// because there the inner header's CE stays. Its compatibility mode copies nothing, for a far end that would lose the marks.
#[inline]
pub(super) const fn encapsulate(mode: EcnEncap, inner: u8) -> u8 {
    match (mode, inner & MASK) {
        (EcnEncap::Compat, _) => NOT_ECT,
        (EcnEncap::Kernel, CE) => ECT_0,
        (EcnEncap::Kernel | EcnEncap::Rfc6040, other) => other,
    }
}

/// The inner bits after decapsulation (RFC 6040 §4.2); `None`: congestion was marked on a flow that does not speak ECN,
/// and dropping the frame is the only way to tell it.
#[inline]
pub(super) const fn decapsulate(inner: u8, outer: u8) -> Option<u8> {
    match (inner & MASK, outer & MASK) {
        (NOT_ECT, CE) => None,
        (NOT_ECT, _) => Some(NOT_ECT),
        (_, CE) => Some(CE),
        (ECT_0, ECT_1) => Some(ECT_1),
        (inner, _) => Some(inner),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d04_all_sixteen_cells_of_rfc_6040() {
        const DROP: Option<u8> = None;
        let table = [
            [Some(0), Some(0), Some(0), DROP],
            [Some(1), Some(1), Some(1), Some(3)],
            [Some(2), Some(1), Some(2), Some(3)],
            [Some(3), Some(3), Some(3), Some(3)],
        ];
        for (inner, row) in (0u8..).zip(table) {
            for (outer, cell) in (0u8..).zip(row) {
                assert_eq!(
                    decapsulate(inner | 0xb8, outer | 0x28),
                    cell,
                    "inner {inner}, outer {outer}"
                );
            }
        }
    }

    #[test]
    fn d03_encapsulation_copies_what_its_mode_says() {
        for (mode, outer) in [
            (EcnEncap::Kernel, [0, 1, 2, 2]),
            (EcnEncap::Rfc6040, [0, 1, 2, 3]),
            (EcnEncap::Compat, [0, 0, 0, 0]),
        ] {
            let sent = [0xb8, 0xb9, 0xba, 0xbb].map(|inner| encapsulate(mode, inner));
            assert_eq!(sent, outer, "{mode:?}");
        }
    }
}
