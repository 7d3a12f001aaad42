//! What begins or ends a connection ends its promotion, by whatever way it comes.

use super::*;

/// FIN, SYN, RST.
const FLAGS: [u8; 3] = [1, 2, 4];

fn flagged(mut frame: Vec<u8>, flags: u8) -> Vec<u8> {
    frame[47] |= flags;
    frame
}

/// Of the other direction, as the kernel delivers it.
fn to_pod() -> Vec<u8> {
    let mut back = frame([GATEWAY, POD], [ENDS[1], ENDS[0]], 62, true);
    back[34..38].copy_from_slice(&[0x07, 0xd0, 0x03, 0xe8]);
    back
}

/// The flow goes these ways, as it goes direct.
fn promoted(gear: &mut Loaded, ways: Ways) {
    let whole = gear.flow(&of_pod(true));
    let flow = Promoted { ways, ..whole };
    gear.go(&flow);
    assert!(goes(gear, ways));
}

fn goes(gear: &Loaded, ways: Ways) -> bool {
    let (out, back) = (
        gear.send_from_pod(&of_pod(true)).0 == TC_ACT_REDIRECT,
        run(&gear.steering, "vxgate_underlay", &of_wire(true)).1 != of_wire(true),
    );
    [out, back] == [ways != Ways::In, ways != Ways::Out]
}

fn goes_nowhere(gear: &Loaded) -> bool {
    gear.send_from_pod(&of_pod(true)) == (TCX_NEXT, of_pod(true))
        && run(&gear.steering, "vxgate_underlay", &of_wire(true)) == (XDP_PASS, of_wire(true))
}

#[test]
fn of_a_flow_that_goes_to_its_pod_only_the_pods_end_is_the_end() {
    for flags in FLAGS {
        let mut gear = gear();
        promoted(&mut gear, Ways::In);
        // By another's hand it is none.
        let mut forged = flagged(of_pod(true), flags);
        forged[11] ^= 1;
        let why = gear.why(WAY_OUT as usize, || drop(gear.send_from_pod(&forged)));
        assert_eq!(why, UpReason::Spoofed);
        assert!(goes(&gear, Ways::In));
        let why = gear.why(WAY_OUT as usize, || {
            let sent = flagged(of_pod(true), flags);
            assert_eq!(gear.send_from_pod(&sent), (TCX_NEXT, sent));
        });
        assert_eq!(why, UpReason::TcpFlags);
        assert!(goes_nowhere(&gear));
    }
}

#[test]
fn what_the_kernel_delivers_of_a_flow_that_goes_direct_ends_it_when_it_ends_the_connection() {
    for ways in [Ways::Out, Ways::Both] {
        for flags in FLAGS {
            let mut gear = gear();
            promoted(&mut gear, ways);
            let deliver = |frame: Vec<u8>| {
                let passed = run(&gear.express.object, "vxgate_to_pod", &frame);
                assert_eq!(passed, (TCX_NEXT, frame));
            };
            deliver(to_pod());
            assert!(goes(&gear, ways), "an ordinary segment");
            deliver(flagged(to_pod(), flags));
            assert!(goes_nowhere(&gear));
        }
    }
}
