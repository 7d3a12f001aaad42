//! Nexthop objects (`linux/nexthop.h`, Linux 5.3), groups of them, and the buckets of resilient groups (Linux 5.13).

use std::net::IpAddr;
use std::time::Duration;

use super::attribute::{attributes, ip_from, u16_from, u32_from};
use super::message::Message;
use super::{Error, RequestBody, Socket};

const RTM_NEWNEXTHOP: u16 = 104;
const RTM_DELNEXTHOP: u16 = 105;
const RTM_GETNEXTHOP: u16 = 106;
const RTM_NEWNEXTHOPBUCKET: u16 = 116;
const RTM_DELNEXTHOPBUCKET: u16 = 117;
const RTM_GETNEXTHOPBUCKET: u16 = 118;

const NHA_ID: u16 = 1;
const NHA_GROUP: u16 = 2;
const NHA_GROUP_TYPE: u16 = 3;
const NHA_GATEWAY: u16 = 6;
const NHA_FDB: u16 = 11;
const NHA_RES_GROUP: u16 = 12;
const NHA_RES_BUCKET: u16 = 13;
/// `NEXTHOP_GRP_TYPE_RES`.
const RESILIENT: u16 = 1;
const NHA_RES_GROUP_BUCKETS: u16 = 1;
const NHA_RES_GROUP_IDLE_TIMER: u16 = 2;
const NHA_RES_GROUP_UNBALANCED_TIMER: u16 = 3;
const NHA_RES_BUCKET_INDEX: u16 = 1;
const NHA_RES_BUCKET_NH_ID: u16 = 3;

/// `struct nhmsg`: family, scope, protocol, flags.
const HEADER: [u8; 8] = [0; 8];
/// `EOPNOTSUPP`, `EINVAL`: what kernels without nexthop objects answer.
const UNKNOWN: [i32; 2] = [95, 22];
/// `ENOENT`: the group is gone.
const GONE: i32 = 2;

/// A nexthop object, or a group of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nexthop {
    /// Its number.
    pub id: u32,
    /// Where it leads; none for a group or a black hole.
    pub gateway: Option<IpAddr>,
    /// Members of a group, in its order.
    pub group: Vec<NexthopMember>,
    /// What a resilient group has beside its members; none for a group that shares flows out by weight.
    pub resilient: Option<Resilient>,
    /// Made for FDB entries (`NHA_FDB`).
    pub fdb: bool,
}

/// How a resilient group works (`NHA_RES_GROUP`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resilient {
    /// How many buckets it has; not 0.
    pub buckets: u16,
    /// How long a bucket must have been without frames to be idle.
    pub idle_timer: Duration,
    /// After how long buckets in use move, too, while members have more or fewer than their share; none: never.
    pub unbalanced_timer: Option<Duration>,
}

impl Resilient {
    fn decode(nest: &[u8]) -> Option<Self> {
        // Hundredths of a second (`USER_HZ`).
        let time = |number| {
            let hundredths = first(nest, number).and_then(u32_from).unwrap_or(0);
            Duration::from_millis(u64::from(hundredths) * 10)
        };
        let unbalanced_timer = time(NHA_RES_GROUP_UNBALANCED_TIMER);
        Some(Self {
            buckets: first(nest, NHA_RES_GROUP_BUCKETS)
                .and_then(u16_from)
                .filter(|count| *count > 0)?,
            idle_timer: time(NHA_RES_GROUP_IDLE_TIMER),
            unbalanced_timer: (!unbalanced_timer.is_zero()).then_some(unbalanced_timer),
        })
    }
}

/// A member of a group (`struct nexthop_grp`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NexthopMember {
    /// The nexthop object's number.
    pub id: u32,
    /// Its part of the flows, 1 to 65536.
    pub weight: u32,
}

impl NexthopMember {
    /// Number, then the weight less one: its low byte, since Linux 6.12 its high byte (0 before), 2 bytes reserved.
    fn decode(bytes: &[u8; 8]) -> Self {
        let [a, b, c, d, low, high, _, _] = *bytes;
        Self {
            id: u32::from_ne_bytes([a, b, c, d]),
            weight: u32::from(u16::from_be_bytes([high, low])) + 1,
        }
    }
}

impl Nexthop {
    /// Reads an `RTM_NEWNEXTHOP` (true) or `RTM_DELNEXTHOP` (false).
    pub fn decode(message: &Message<'_>) -> Option<(bool, Self)> {
        let exists = match message.kind {
            RTM_NEWNEXTHOP => true,
            RTM_DELNEXTHOP => false,
            _ => return None,
        };
        let mut nexthop = Self {
            id: 0,
            gateway: None,
            group: Vec::new(),
            resilient: None,
            fdb: false,
        };
        let (mut kind, mut resilient) = (None, None);
        for (number, value) in attributes(message.payload.get(HEADER.len()..)?) {
            match number {
                NHA_ID => nexthop.id = u32_from(value)?,
                NHA_GROUP => {
                    let (members, _) = value.as_chunks();
                    nexthop.group = members.iter().map(NexthopMember::decode).collect();
                }
                NHA_GROUP_TYPE => kind = u16_from(value),
                NHA_GATEWAY => nexthop.gateway = ip_from(value),
                NHA_FDB => nexthop.fdb = true,
                NHA_RES_GROUP => resilient = Resilient::decode(value),
                _ => {}
            }
        }
        nexthop.resilient = resilient.filter(|_| kind == Some(RESILIENT));
        (nexthop.id != 0).then_some((exists, nexthop))
    }
}

/// One bucket of a resilient group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NexthopBucket {
    /// The group's number.
    pub group: u32,
    /// Which of its buckets, from 0.
    pub index: u16,
    /// The nexthop object that its flows go to.
    pub nexthop: u32,
}

impl NexthopBucket {
    /// Reads an `RTM_NEWNEXTHOPBUCKET` or `RTM_DELNEXTHOPBUCKET`.
    pub fn decode(message: &Message<'_>) -> Option<Self> {
        if !matches!(message.kind, RTM_NEWNEXTHOPBUCKET | RTM_DELNEXTHOPBUCKET) {
            return None;
        }
        let (mut group, mut index, mut nexthop) = (None, None, None);
        for (number, value) in attributes(message.payload.get(HEADER.len()..)?) {
            match number {
                NHA_ID => group = u32_from(value),
                NHA_RES_BUCKET => {
                    index = first(value, NHA_RES_BUCKET_INDEX).and_then(u16_from);
                    nexthop = first(value, NHA_RES_BUCKET_NH_ID).and_then(u32_from);
                }
                _ => {}
            }
        }
        Some(Self {
            group: group?,
            index: index?,
            nexthop: nexthop?,
        })
    }
}

/// Every nexthop object of the namespace; none on a kernel that does not know them.
pub fn nexthops(socket: &mut Socket) -> Result<Vec<Nexthop>, Error> {
    let answer = socket.dump_with(RTM_GETNEXTHOP, &HEADER, |message| {
        Nexthop::decode(message).map(|(_, nexthop)| nexthop)
    });
    match answer {
        Err(error) if error.code().is_some_and(|code| UNKNOWN.contains(&code)) => Ok(Vec::new()),
        other => other,
    }
}

/// Every bucket of a resilient group; none when there is no such group.
pub fn nexthop_buckets(socket: &mut Socket, group: u32) -> Result<Vec<NexthopBucket>, Error> {
    let question = RequestBody::new(&HEADER).with(NHA_ID, &group.to_ne_bytes());
    let answer = socket.dump_with(RTM_GETNEXTHOPBUCKET, question.as_bytes(), |message| {
        NexthopBucket::decode(message).filter(|bucket| bucket.group == group)
    });
    match answer {
        Err(error)
            if error
                .code()
                .is_some_and(|code| code == GONE || UNKNOWN.contains(&code)) =>
        {
            Ok(Vec::new())
        }
        other => other,
    }
}

/// The value of the first nested attribute with this number.
fn first(nest: &[u8], number: u16) -> Option<&[u8]> {
    attributes(nest)
        .find(|(other, _)| *other == number)
        .map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(kind: u16, payload: &[u8]) -> Message<'_> {
        Message {
            kind,
            flags: 0,
            sequence: 0,
            payload,
            bytes: payload,
        }
    }

    fn member(id: u32, weight: u32) -> NexthopMember {
        NexthopMember { id, weight }
    }

    #[test]
    fn a_group_with_an_attribute_nobody_knows() {
        let members = [101, 0, 0, 0, 0, 0, 0, 0, 102, 0, 0, 0, 2, 0, 0, 0, 1, 2, 3];
        let body = RequestBody::new(&HEADER)
            .with(1, &200u32.to_ne_bytes())
            .with(2, &members)
            .with(3, &0u16.to_ne_bytes())
            .with(11, &[])
            .with(14, &0x8000_0000u32.to_ne_bytes());
        let (exists, nexthop) = Nexthop::decode(&message(104, body.as_bytes())).unwrap();
        assert!(exists && nexthop.fdb);
        assert_eq!(
            (nexthop.id, nexthop.gateway, nexthop.resilient),
            (200, None, None)
        );
        assert_eq!(nexthop.group, [member(101, 1), member(102, 3)]);
        assert_eq!(Nexthop::decode(&message(104, &HEADER)), None, "no number");
        assert_eq!(Nexthop::decode(&message(104, &[0; 7])), None, "no header");
    }

    #[test]
    fn a_weight_is_stored_less_one_in_two_bytes() {
        let weight = |low, high| NexthopMember::decode(&[7, 0, 0, 0, low, high, 0xff, 0xff]).weight;
        assert_eq!(
            [weight(0, 0), weight(255, 0), weight(0, 1), weight(255, 255)],
            [1, 256, 257, 65536]
        );
    }

    #[test]
    fn a_resilient_group_tells_its_buckets_and_timers_and_another_has_none() {
        let group = |kind: u16, nest: &[u8]| {
            let body = RequestBody::new(&HEADER)
                .with(1, &200u32.to_ne_bytes())
                .with(2, &[101, 0, 0, 0, 0, 0, 0, 0])
                .with(3, &kind.to_ne_bytes())
                .with(12, nest);
            Nexthop::decode(&message(104, body.as_bytes()))
                .unwrap()
                .1
                .resilient
        };
        let nest = RequestBody::default()
            .with(1, &8u16.to_ne_bytes())
            .with(2, &12_000u32.to_ne_bytes());
        let resilient = Resilient {
            buckets: 8,
            idle_timer: Duration::from_secs(120),
            unbalanced_timer: None,
        };
        assert_eq!(group(1, nest.as_bytes()), Some(resilient));
        let forced = nest.clone().with(3, &50u32.to_ne_bytes());
        let forced = group(1, forced.as_bytes()).unwrap();
        assert_eq!(forced.unbalanced_timer, Some(Duration::from_millis(500)));
        assert_eq!(group(0, nest.as_bytes()), None, "not resilient");
        assert_eq!(group(1, &[]), None, "no number of buckets");
        let none = RequestBody::default().with(1, &0u16.to_ne_bytes());
        assert_eq!(group(1, none.as_bytes()), None, "no bucket at all");
        assert_eq!(group(1, &[6, 0, 1]), None, "cut short");
    }

    #[test]
    fn a_bucket_names_its_group_and_its_nexthop() {
        let nest = RequestBody::default()
            .with(1, &5u16.to_ne_bytes())
            .with(2, &[0; 8])
            .with(3, &101u32.to_ne_bytes());
        let body = RequestBody::new(&HEADER)
            .with(1, &200u32.to_ne_bytes())
            .with(13, nest.as_bytes());
        let bucket = NexthopBucket {
            group: 200,
            index: 5,
            nexthop: 101,
        };
        for kind in [116, 117] {
            assert_eq!(
                NexthopBucket::decode(&message(kind, body.as_bytes())),
                Some(bucket)
            );
        }
        assert_eq!(NexthopBucket::decode(&message(104, body.as_bytes())), None);
        for cut in 0..body.as_bytes().len() {
            assert_eq!(
                NexthopBucket::decode(&message(116, &body.as_bytes()[..cut])),
                None,
                "cut to {cut} bytes"
            );
        }
    }

    proptest! {
        /// Attributes of any length and content: no panic, and nothing that the data path must not meet.
        #[test]
        fn whatever_the_kernel_says_is_judged(
            kind in prop::sample::select(vec![104u16, 105, 116, 117, 24]),
            values in prop::collection::vec((0u16..16, prop::collection::vec(any::<u8>(), 0..40)), 0..8),
            cut in any::<prop::sample::Index>(),
        ) {
            let body = RequestBody::new(&HEADER);
            let body = values.iter().fold(body, |body, (number, value)| body.with(*number, value));
            let bytes = body.as_bytes();
            for bytes in [bytes, &bytes[..cut.index(bytes.len())]] {
                let message = message(kind, bytes);
                let nexthop = Nexthop::decode(&message);
                prop_assert!(!(nexthop.is_some() && NexthopBucket::decode(&message).is_some()));
                if let Some((exists, nexthop)) = nexthop {
                    prop_assert_eq!(exists, kind == 104);
                    prop_assert!(nexthop.id != 0);
                    prop_assert!(nexthop.group.iter().all(|member| (1..=65536).contains(&member.weight)));
                    prop_assert!(nexthop.resilient.is_none_or(|resilient| resilient.buckets > 0));
                }
            }
        }
    }
}
