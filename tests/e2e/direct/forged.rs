//! What a pod sends in another's name.

use super::seen::{direct, handed_up};
use super::{PATIENCE, Talk};
use crate::support::frames::RawSocket;
use crate::support::vxgate::{Status, Vxgate};
use crate::support::wait_until;

/// An even number of frames that another pod forges.
pub const FORGED: u64 = 24;

/// Frames that are forged of a promoted flow are all handed up, for this reason, and none goes out.
pub fn forged_is_handed_up(
    talk: &mut Talk,
    vxgate: &Vxgate,
    (wire, frame): (&RawSocket, &[u8]),
    reason: &str,
) {
    // Were the flow demoted in the midst for another reason, the frames would be nobody's: then they are sent again.
    wait_until("the forged frames are handed up", PATIENCE, || {
        talk.until_direct(vxgate);
        let before = vxgate.status();
        (0..FORGED).for_each(|_| wire.send(frame));
        let more = |now: &Status, reason| {
            handed_up(now, "out", reason) - handed_up(&before, "out", reason)
        };
        wait_until("they have a fate", PATIENCE, || {
            more(&vxgate.status(), "total") >= FORGED
        });
        let after = vxgate.balanced();
        assert_eq!(direct(&after).out, direct(&before).out, "none went out");
        // The node's own rules do not ask who sends, so the far end has answered to what was forged.
        talk.hear_out();
        more(&after, reason) >= FORGED
    });
}
