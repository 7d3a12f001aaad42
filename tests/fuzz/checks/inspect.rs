//! The load generator's inspector, which reads frames from anywhere.

use vxgate::loadgen::engine::{Inspection, inspect as look};
use vxgate::loadgen::signature::Signature;

/// The longest frame that is looked into.
const FRAME_MAX: usize = 9216;
const VXLAN_PORTS: [u16; 2] = [4789, 8472];

/// Any bytes are a frame of the generators', or not; padding behind it changes nothing, and none of its own bytes is spare.
pub fn inspect(bytes: &[u8]) {
    let Some(found) = look(bytes, &VXLAN_PORTS) else {
        return;
    };
    let mut inspection = Inspection::default();
    inspection.add(&found, true);
    assert_eq!(inspection.inspected, 1);
    let findings = inspection.findings();
    assert!(findings.iter().all(|(_, frames)| *frames <= 1));

    if bytes.len() + 3 > FRAME_MAX {
        return;
    }
    let padded = [bytes, &[0xa5; 3]].concat();
    let again = look(&padded, &VXLAN_PORTS).expect("padding is not part of a frame");
    assert_eq!(
        (again.signature, again.whole),
        (found.signature, found.whole)
    );
    let mut with_padding = Inspection::default();
    with_padding.add(&again, true);
    // Outer lengths that promise more than there is may find it in the padding.
    if inspection.outer_lengths == 0 {
        assert_eq!(with_padding, inspection);
    }

    // Cut to the end of the signature, it is the same still; a byte shorter, it is none.
    let mark = found.signature.to_bytes();
    let end = (mark.len()..=bytes.len())
        .find(|end| {
            bytes[end - mark.len()..*end] == mark && look(&bytes[..*end], &VXLAN_PORTS).is_some()
        })
        .expect("the signature stands in the frame");
    let exact = look(&bytes[..end], &VXLAN_PORTS).expect("it was found a line above");
    assert_eq!(exact.signature, found.signature);
    assert!(look(&bytes[..end - 1], &VXLAN_PORTS).is_none());

    // The check is over the signature, too: another number is another frame.
    if found.whole {
        let other = Signature {
            sequence: found.signature.sequence ^ 1,
            ..found.signature
        };
        let mut changed = bytes[..end].to_vec();
        changed[end - mark.len()..].copy_from_slice(&other.to_bytes());
        let changed = look(&changed, &VXLAN_PORTS).expect("the magic is still there");
        assert!(!changed.whole);
    }
}
