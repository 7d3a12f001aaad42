//! What other programs and people say: the kernel over netlink, clients of the control socket and of the metrics, the
//! configuration file.

use std::fmt::Write as _;

use serde_json::Value;
use vxgate::config::{self, ConfigError, Devices, Key, Settings, WORKERS_MAX};
use vxgate::control::{self, Defaults};
use vxgate::fault::{Fault, Report};
use vxgate::gateway::Observation;
use vxgate::netlink::{
    self, Address, LinkKind, MdbPart, Message, Neighbour, Nexthop, NexthopBucket, Route,
};
use vxgate::show::{HEAD_LEN_MAX, Head, LastDropped, Look, Refusal, Seen, Status};
use vxgate::show::{answer_to, read_answer};
use vxgate::table::{FlowLabel, Policy};
use vxgate::wire::vxlan::USED_BITS;

/// The kinds that the decoders know, and one that none does.
const KINDS: [u16; 15] = [
    16, 17, 20, 21, 24, 25, 28, 29, 84, 85, 104, 105, 116, 117, 77,
];

/// Messages and attributes are parts of the datagram, whatever it says of their lengths; every decoder takes what it is
/// given or leaves it, whatever kind the message claims to be; and of the links and addresses among them, each vxlan device
/// that is not refused is one that can be carried.
pub fn netlink(data: &[u8]) {
    let mut taken = 0;
    let (mut links, mut addresses, mut with_mdb) = (Vec::new(), Vec::new(), Vec::new());
    for message in netlink::messages(data) {
        taken += message.bytes.len();
        assert!(taken <= data.len() && message.payload.len() + 16 == message.bytes.len());
        attributes(message.payload, 0);
        for header in [4, 8, 12, 16] {
            attributes(message.payload.get(header..).unwrap_or_default(), 0);
        }
        decode(&message);
        for kind in KINDS {
            decode(&Message { kind, ..message });
        }
        links.extend(LinkKind::decode(&message).map(|(_, link)| link));
        addresses.extend(Address::decode(&message).map(|(_, address)| address));
        let part = MdbPart::decode(&message).filter(|part| part.has_entries);
        with_mdb.extend(part.map(|part| part.ifindex));
    }
    devices(&links, &addresses, &with_mdb);
}

fn devices(links: &[LinkKind], addresses: &[Address], with_mdb: &[u32]) {
    let all = control::judge(links, addresses, with_mdb, &Defaults::default());
    assert!(all.len() <= links.len());
    assert!(all.is_sorted_by_key(|found| found.device.ifindex));
    let mut ends = Vec::new();
    for found in all {
        let device = &found.device;
        assert!(device.source_ports.low <= device.source_ports.high && device.ttl_default != 0);
        assert!(match device.flow_label {
            FlowLabel::Fixed(label) => label < 1 << 20,
            _ => true,
        });
        let Some(refusal) = found.refusal else {
            let underlay = found.underlay.expect("no refusal without an underlay");
            let config = device
                .segment_config(&underlay, &Policy::default())
                .expect("no refusal without an address");
            assert_eq!(
                (config.underlay_ifindex, config.local),
                (underlay.ifindex, device.local.expect("as before"))
            );
            assert!(underlay.ethernet && !underlay.loopback);
            assert_eq!(config.header_bits & USED_BITS, USED_BITS);
            let own = [Some(config.local), config.group];
            for addr in own.into_iter().flatten().filter(|_| device.up) {
                ends.push((addr, config.port, config.vni));
            }
            continue;
        };
        assert!(!refusal.attribute.is_empty() && !refusal.why.is_empty());
    }
    let count = ends.len();
    ends.sort();
    ends.dedup();
    assert_eq!(
        ends.len(),
        count,
        "of two devices that are up for one end point one is refused"
    );
}

fn attributes(bytes: &[u8], depth: u32) {
    let mut taken = 0;
    for (_, value) in netlink::attributes(bytes) {
        taken += value.len();
        assert!(taken <= bytes.len());
        let _ = (
            netlink::u8_from(value),
            netlink::u16_be_from(value),
            netlink::u32_from(value),
            netlink::flag_or_u8(value),
            netlink::ip_from(value),
            netlink::mac_from(value),
            netlink::text_from(value),
        );
        if depth < 3 {
            attributes(value, depth + 1);
        }
    }
}

/// A decoder reads its own kinds only, and only what is there.
fn decode(message: &Message<'_>) {
    let (kind, payload) = (message.kind, message.payload);
    if let Some((exists, link)) = LinkKind::decode(message) {
        assert_eq!(exists, kind == 16);
        assert!(payload.len() >= 16 && payload[0] == 0);
        assert!(link.data.len() + 8 <= payload.len());
        assert!(!(link.elsewhere && link.link.peer.is_some()));
        attributes(&link.data, 0);
    }
    if let Some((exists, address)) = Address::decode(message) {
        assert_eq!(exists, kind == 20);
        let octets = crate::rig::sums::octets(address.local);
        assert!(
            payload[8..]
                .windows(octets.len())
                .any(|bytes| bytes == octets)
        );
    }
    if let Some((exists, route)) = Route::decode(message) {
        assert_eq!(exists, kind == 24);
        assert!(payload.len() >= 12 && route.mtu != Some(0));
        // Contains what is under its own prefix, whatever length that claims to have.
        if let Some(dst) = route.dst {
            assert!(route.contains(dst));
        }
        let _ = (
            route.contains([0; 4].into()),
            route.contains([0; 16].into()),
        );
    }
    if let Some((exists, entry)) = Neighbour::decode(message) {
        assert_eq!(exists, kind == 28);
        assert!(payload.len() >= 12);
        assert_eq!((entry.fdb, entry.flags), (payload[0] == 7, payload[10]));
        let _ = (entry.is_managed(), entry.is_fixed());
    }
    if let Some((exists, nexthop)) = Nexthop::decode(message) {
        assert_eq!(exists, kind == 104);
        assert!(nexthop.id != 0 && nexthop.group.len() * 8 <= payload.len());
        assert!(
            nexthop
                .group
                .iter()
                .all(|member| (1..=65_536).contains(&member.weight))
        );
        assert!(
            nexthop
                .resilient
                .is_none_or(|resilient| resilient.buckets != 0)
        );
    }
    if let Some(part) = MdbPart::decode(message) {
        assert!(matches!(kind, 84 | 85));
        assert!(!part.has_entries || payload.len() > 12);
    }
    if NexthopBucket::decode(message).is_some() {
        assert!(matches!(kind, 116 | 117));
    }
}

/// A client that writes anything gets one line of JSON: the status, or what else it asked for, when it asked for that and for nothing
/// else, what came of what it told the daemon to do, or why not. What a daemon answers, if it is a status, can be shown, and says the same once it was written again. The first
/// byte says which end the rest is for.
pub fn control_protocol(data: &[u8]) {
    let (end, bytes) = data.split_first().unwrap_or((&0, &[]));
    if end % 2 == 0 {
        request(bytes);
    } else if let Ok(status) = read_answer(bytes) {
        assert!(status.to_string().ends_with('\n'));
        let looked = |_| Ok(Seen::Status(Box::new(status.clone())));
        let again = answer_to(br#"{"request":"status"}"#, looked, |_| Err(vec![]));
        let again = again.expect("JSON");
        assert_eq!(read_answer(&again).as_ref(), Ok(&status));
    }
}

fn request(line: &[u8]) {
    let status = Status::new(Observation::default(), 3);
    let (mut looked, mut told) = (None, false);
    let answer = answer_to(
        line,
        |look| match looked.insert(look) {
            Look::Status => Ok(Seen::Status(Box::new(status.clone()))),
            // Whatever else there is to see is a document of its own.
            _ => Ok(Seen::DroppedFrames(LastDropped::new(Vec::new()))),
        },
        |_| {
            told = true;
            Err(vec![Report::new(Fault::DaemonStopping, "too late".into())])
        },
    );
    let answer = answer.expect("JSON");
    let newlines = answer.iter().filter(|byte| **byte == b'\n').count();
    assert_eq!((answer.last(), newlines), (Some(&b'\n'), 1));
    match (read_answer(&answer), &looked) {
        (Ok(read), look) => assert!(*look == Some(Look::Status) && read == status),
        (Err(why), None) if told => assert_eq!(why, "too late"),
        (Err(why), None) => assert!(why.starts_with("not a request: "), "{why}"),
        (Err(why), Some(look)) => assert!(*look != Look::Status, "{why}"),
    }
    if looked.is_some() || told {
        let text = String::from_utf8_lossy(line);
        assert!(text.trim_start().starts_with('{'), "{text}");
        assert!(text.contains("request") || text.contains("\\u"), "{text}");
    }
}

/// A head says the same however it is cut; what it asks for is a path that it has; and it comes to an end.
pub fn http(data: &[u8]) {
    let (cut, bytes) = data.split_first().unwrap_or((&0, &[]));
    let whole = Head::default().take(bytes);
    let mut head = Head::default();
    let mut pieces = bytes.chunks(usize::from(*cut).max(1));
    assert_eq!(pieces.find_map(|piece| head.take(piece)), whole);
    match whole {
        None => assert!(bytes.len() <= HEAD_LEN_MAX),
        Some(Err(Refusal::TooLong)) => assert!(bytes.len() > HEAD_LEN_MAX),
        Some(Err(_)) => {}
        Some(Ok(request)) => {
            let path = request.path;
            assert!(path.starts_with('/') && !path.contains(['?', '#']));
            assert!(path.bytes().all(|byte| byte.is_ascii_graphic()));
            let text = String::from_utf8_lossy(bytes).replace('\r', "");
            assert!(path == "/" || text.contains(&path), "{path}");
        }
    }
}

/// A text is a configuration that says the same once it was written again, or all that is wrong with it is told, with
/// lines that it has, and without what could draw on the reader's terminal.
pub fn config(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    match config::parse(&text) {
        Ok(settings) => {
            legal(&settings);
            let written = written(&settings);
            match config::parse(&written) {
                Ok(again) => assert_eq!(again, settings, "{written}"),
                Err(error) => panic!("{error}: {written}"),
            }
        }
        Err(ConfigError::Text(findings)) => {
            assert!(findings.iter().next().is_some());
            let lines = 1 + text.matches('\n').count();
            for finding in findings.iter() {
                assert!(finding.line.is_none_or(|line| (1..=lines).contains(&line)));
            }
            let words = findings.to_string();
            assert!(
                !words.contains(|c: char| c.is_control() && c != '\n'),
                "{words:?}"
            );
        }
        Err(other) => panic!("of a text: {other}"),
    }
}

fn legal(settings: &Settings) {
    assert!(
        settings
            .workers
            .is_none_or(|count| (1..=WORKERS_MAX).contains(&count))
    );
    assert!(
        settings
            .socket
            .as_ref()
            .is_none_or(|path| path.is_absolute())
    );
    if let Some(Devices::Named(names)) = &settings.devices {
        assert!(!names.is_empty());
        for name in names {
            assert!((1..=15).contains(&name.len()) && !name.contains(['/', ':', ' ', '\n', '\0']));
        }
    }
}

/// The settings as a file: every key that there is.
fn written(settings: &Settings) -> String {
    let mut text = String::new();
    for table in Key::tables() {
        let _ = writeln!(text, "[{table}]");
        for key in Key::of(table) {
            if let Some(value) = key.value(settings) {
                let _ = writeln!(text, "{} = {}", key.name(), as_toml(&value));
            }
        }
    }
    text
}

fn as_toml(value: &Value) -> String {
    match value {
        Value::String(text) => quoted(text),
        Value::Array(values) => {
            let values: Vec<_> = values.iter().map(as_toml).collect();
            format!("[{}]", values.join(", "))
        }
        number => number.to_string(),
    }
}

/// A TOML string.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(quoted, "\\U{:08X}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
