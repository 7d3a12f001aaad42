//! What frames of the overlay become, and what of.

mod edit;
mod inner;
mod outer;
mod vtep;

use std::sync::Arc;

use etherparse::Ipv4HeaderSlice;

use super::super::lab::{FAR, Lab, NEAR, OWN, UNKNOWN, config, inner4, inner6, segment};
use super::*;
use crate::table::{SegmentConfig, VtepId};

fn lab() -> Lab {
    Lab::new(vec![segment(config())])
}

fn lab_with(change: impl FnOnce(&mut SegmentConfig)) -> Lab {
    let mut config = config();
    change(&mut config);
    Lab::new(vec![segment(config)])
}

fn flooding(list: &[u32]) -> Lab {
    let mut segment = segment(config());
    segment.flood = Arc::new(list.iter().copied().map(VtepId).collect());
    Lab::new(vec![segment])
}

fn ip(frame: &[u8]) -> etherparse::Ipv4Header {
    Ipv4HeaderSlice::from_slice(&frame[14..])
        .unwrap()
        .to_header()
}

fn tos(frame: &[u8]) -> u8 {
    frame[15]
}

fn destinations(sent: &[Vec<u8>]) -> Vec<u8> {
    sent.iter().map(|frame| ip(frame).destination[3]).collect()
}

fn source_port(frame: &[u8]) -> u16 {
    u16::from_be_bytes([frame[34], frame[35]])
}

fn tagged(frame: &[u8]) -> Vec<u8> {
    [&frame[..12], &[0x81, 0, 0, 10], &frame[12..]].concat()
}

const ARP: [u8; 42] = {
    let mut frame = [0; 42];
    let mut n = 0;
    while n < 6 {
        frame[n] = NEAR.0[n];
        frame[6 + n] = OWN.0[n];
        n += 1;
    }
    (frame[12], frame[13]) = (8, 6);
    frame
};

#[test]
fn frames_of_a_segment_that_is_gone_are_counted_and_released() {
    let mut lab = Lab::new(Vec::new());
    assert_eq!(lab.fate_out(&inner4(NEAR, &[])), Err(DropReason::LinkDown));
}
