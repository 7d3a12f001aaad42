//! Filters of `clsact`, where classifiers hang that are not held by a link (`linux/pkt_cls.h`).

use super::attribute::{attributes, text_from};
use super::message::Message;
use super::{Error, RequestBody, Socket};

const RTM_NEWTFILTER: u16 = 44;
const RTM_GETTFILTER: u16 = 46;
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_BPF_NAME: u16 = 7;
/// `TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS)`, and the same of egress.
const INGRESS: u32 = 0xffff_fff2;
const EGRESS: u32 = 0xffff_fff3;
/// Length of `struct tcmsg`.
const HEADER_LEN: usize = 20;

/// A filter on a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// On frames that leave; else on such that arrive.
    pub egress: bool,
    /// Its priority (`pref`).
    pub priority: u16,
    /// Its kind, such as `bpf` or `u32`.
    pub kind: String,
    /// The program's name, where it is one of BPF.
    pub name: Option<String>,
}

/// The filters of a device, both ways; none where it has no `clsact`.
pub fn filters(socket: &mut Socket, ifindex: u32) -> Result<Vec<Filter>, Error> {
    let mut all = Vec::new();
    for parent in [INGRESS, EGRESS] {
        // struct tcmsg: u8 family, 3 bytes of padding, i32 index, u32 handle, u32 parent, u32 info
        let mut header = [0; HEADER_LEN];
        header[4..8].copy_from_slice(&ifindex.to_ne_bytes());
        header[12..16].copy_from_slice(&parent.to_ne_bytes());
        let body = RequestBody::new(&header);
        all.extend(socket.dump_with(RTM_GETTFILTER, body.as_bytes(), decode)?);
    }
    Ok(all)
}

fn decode(message: &Message<'_>) -> Option<Filter> {
    let header = message.payload.first_chunk::<HEADER_LEN>()?;
    let field = |at: usize| {
        let bytes = header.get(at..)?.first_chunk()?;
        Some(u32::from_ne_bytes(*bytes))
    };
    let (handle, parent, info) = (field(8)?, field(12)?, field(16)?);
    // Without a handle it is the priority's own message, which comes before those of its filters.
    if message.kind != RTM_NEWTFILTER || handle == 0 {
        return None;
    }
    let mut filter = Filter {
        egress: parent == EGRESS,
        priority: (info >> 16) as u16,
        kind: String::new(),
        name: None,
    };
    for (number, value) in attributes(message.payload.get(HEADER_LEN..)?) {
        match number {
            TCA_KIND => filter.kind = text_from(value),
            TCA_OPTIONS => {
                let mut options = attributes(value);
                let name = options.find(|(number, _)| *number == TCA_BPF_NAME);
                filter.name = name.map(|(_, name)| text_from(name));
            }
            _ => {}
        }
    }
    if filter.kind != "bpf" {
        filter.name = None;
    }
    Some(filter)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(kind: u16, handle: u32, parent: u32, classifier: &[u8]) -> Option<Filter> {
        let mut header = [0; HEADER_LEN];
        header[8..12].copy_from_slice(&handle.to_ne_bytes());
        header[12..16].copy_from_slice(&parent.to_ne_bytes());
        header[16..].copy_from_slice(&(49152_u32 << 16 | 3).to_ne_bytes());
        let options = RequestBody::default().with(TCA_BPF_NAME, b"mine.o:[tc]\0");
        let body = RequestBody::new(&header)
            .with(TCA_KIND, classifier)
            .with(TCA_OPTIONS, options.as_bytes());
        let payload = body.as_bytes();
        decode(&Message {
            kind,
            flags: 0,
            sequence: 1,
            payload,
            bytes: payload,
        })
    }

    #[test]
    fn a_filter_is_read_with_its_side_and_priority_and_only_bpf_has_a_program() {
        let filter = read(RTM_NEWTFILTER, 1, EGRESS, b"bpf\0").unwrap();
        assert!(filter.egress);
        assert_eq!((filter.priority, filter.kind.as_str()), (49152, "bpf"));
        assert_eq!(filter.name.as_deref(), Some("mine.o:[tc]"));
        let other = read(RTM_NEWTFILTER, 1, INGRESS, b"u32\0").unwrap();
        assert_eq!((other.egress, other.name), (false, None));
    }

    #[test]
    fn messages_of_no_filter_are_none() {
        assert_eq!(read(RTM_NEWTFILTER, 0, EGRESS, b"bpf\0"), None);
        assert_eq!(read(45, 1, EGRESS, b"bpf\0"), None);
        let short = Message {
            kind: RTM_NEWTFILTER,
            flags: 0,
            sequence: 1,
            payload: &[0; 19],
            bytes: &[],
        };
        assert_eq!(decode(&short), None);
    }

    #[test]
    fn the_kernel_tells_of_a_device_without_any() {
        let mut socket = Socket::open().unwrap();
        assert_eq!(filters(&mut socket, 1).unwrap(), []);
    }
}
