//! From which VTEPs frames are taken.

use super::super::super::lab::{FAR, NEAR};
use super::*;
use crate::wire::Vni;
use std::sync::Arc;

#[test]
fn v10_each_impossible_source_is_martian() {
    let mut lab = lab();
    let sources = [
        [0, 0, 0, 0],
        [0, 1, 2, 3],
        [127, 0, 0, 1],
        [127, 9, 9, 9],
        [224, 0, 0, 1],
        [239, 255, 255, 255],
        [255, 255, 255, 255],
        [192, 0, 2, 1],
    ];
    for source in sources {
        let mut frame = GOOD.to_vec();
        frame[26..30].copy_from_slice(&source);
        seal(&mut frame);
        assert_eq!(
            lab.fate_in(&frame),
            Err(DropReason::MartianSource),
            "{source:?}"
        );
    }
}

#[test]
fn v12_a_peer_of_one_vni_is_none_of_another() {
    let mut other = segment(SegmentConfig {
        vni: Vni::new(2).unwrap(),
        ..config()
    });
    other.peers = Arc::new(vec!["192.0.2.9".parse().unwrap()].into());
    let mut lab = Lab::new(vec![segment(config()), other]);
    assert_eq!(lab.fate_in(&changed(48, 2)), Err(DropReason::UnknownPeer));
    let mut frame = changed(48, 2);
    frame[29] = 9;
    seal(&mut frame);
    assert_eq!(lab.decap(&[frame]).1, [(SegmentId(1), GOOD[50..].to_vec())]);
}

#[test]
fn stations_behind_other_vteps_may_be_the_source() {
    let mut frame = GOOD;
    frame[56..62].copy_from_slice(&FAR.0);
    assert!(lab().fate_in(&frame).is_ok());
    assert_eq!(GOOD[56..62], NEAR.0);
}
