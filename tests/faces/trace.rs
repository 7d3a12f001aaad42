//! `vxgate trace` on a state that was written down.

use std::fs;
use std::io::Read;
use std::process::Stdio;

use serde_json::Value;

use super::{folder, json, printed, run, vxgate};

/// A node's state, as `vxgate state dump` writes it.
const STATE: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/fuzz/corpus/state/node.json"
);

/// What `vxgate trace` says of a frame on that state.
fn traced(arguments: &[&str]) -> String {
    printed(&[&["trace", "--state", STATE], arguments].concat())
}

#[test]
fn a_frame_from_the_underlay_is_traced_to_where_it_dies_or_gets() {
    insta::assert_snapshot!(traced(&["--in", "eth0", "outer-src=10.0.0.11", "outer-ecn=ce", "src=10.244.1.5", "dst=10.244.3.7"]), @r#"
     1 rx eth0: 02:00:00:00:00:02 > 02:00:00:00:00:0d IPv4 10.0.0.11 > 10.0.0.13 UDP 50000 > 8472, TTL 64, ECN CE, 148 bytes, UDP checksum 0
     2 steering: VXLAN to one of our addresses and ports, to a worker
     3 vxlan: flags 0x08, VNI 1, segment flannel.1
     4 peer check: 10.0.0.11 is a known VTEP of VNI 1 (strict)
     5 inner: 0e:24:40:00:01:00 > 0e:24:40:00:03:00 IPv4 10.244.1.5 > 10.244.3.7 ICMP, TTL 64, ECN Not-ECT
    VERDICT drop tunnel_ecn (the kernel: IP_TUNNEL_ECN)
      why      Congestion marked outside on a flow that does not speak ECN (RFC 6040 §4.2).
      do       Congestion on the way, and senders that do not know ECN: as the kernel does. Nothing.
      counter  vxgate_drops_total{port="eth0",reason="tunnel_ecn",direction="rx"} +1
    "#);
    insta::assert_snapshot!(traced(&["--in", "eth0", "src=10.244.1.5", "dst=10.244.3.7", "proto=tcp", "sport=4000", "len=100"]), @r#"
     1 rx eth0: 02:00:00:00:00:02 > 02:00:00:00:00:0d IPv4 10.0.0.11 > 10.0.0.13 UDP 50000 > 8472, TTL 64, ECN Not-ECT, 150 bytes, UDP checksum 0
     2 steering: VXLAN to one of our addresses and ports, to a worker
     3 vxlan: flags 0x08, VNI 1, segment flannel.1
     4 peer check: 10.0.0.11 is a known VTEP of VNI 1 (strict)
     5 inner: 0e:24:40:00:01:00 > 0e:24:40:00:03:00 IPv4 10.244.1.5 > 10.244.3.7 TCP 4000 > 80, TTL 64, ECN Not-ECT
     6 tx flannel.1, by vxgt0: 0e:24:40:00:01:00 > 0e:24:40:00:03:00 IPv4 10.244.1.5 > 10.244.3.7 TCP 4000 > 80, TTL 64, ECN Not-ECT, 100 bytes
    VERDICT forward
      counter  vxgate_forwarded_packets_total{port="eth0",direction="decap"} +1
               vxgate_peer_packets_total{device="flannel.1",vni="1",peer="10.0.0.11",direction="rx"} +1
    "#);
    insta::assert_snapshot!(traced(&["--in", "eth0", "outer-src=10.0.9.99"]), @r#"
     1 rx eth0: 02:00:00:00:00:02 > 02:00:00:00:00:0d IPv4 10.0.9.99 > 10.0.0.13 UDP 50000 > 8472, TTL 64, ECN Not-ECT, 148 bytes, UDP checksum 0
     2 steering: VXLAN to one of our addresses and ports, to a worker
     3 vxlan: flags 0x08, VNI 1, segment flannel.1
     4 peer check: 10.0.9.99 is no known VTEP of VNI 1 (strict)
    VERDICT drop unknown_peer
      why      The outer source is no known VTEP of this VNI.
      do       `vxgate status` names the senders. Give a VTEP of ours an FDB entry; else nothing is wrong here.
      counter  vxgate_drops_total{port="eth0",reason="unknown_peer",direction="rx"} +1
    "#);
    insta::assert_snapshot!(traced(&["--in", "eth0", "flags=0"]), @r#"
     1 rx eth0: 02:00:00:00:00:02 > 02:00:00:00:00:0d IPv4 10.0.0.11 > 10.0.0.13 UDP 50000 > 8472, TTL 64, ECN Not-ECT, 148 bytes, UDP checksum 0
     2 steering: VXLAN to one of our addresses and ports, to a worker
     3 vxlan: flags 0x00, VNI 1, segment flannel.1
    VERDICT drop no_i_flag (the kernel: VXLAN_INVALID_HDR)
      why      The I flag is clear: not a valid VNI (RFC 7348 §5).
      do       Something else sends to the UDP port of VXLAN: find out what, or use another port.
      counter  vxgate_drops_total{port="eth0",reason="no_i_flag",direction="rx"} +1
    "#);
    insta::assert_snapshot!(traced(&["--in", "eth0", "vni=2", "outer-src=10.0.0.11"]), @r#"
     1 rx eth0: 02:00:00:00:00:02 > 02:00:00:00:00:0d IPv4 10.0.0.11 > 10.0.0.13 UDP 50000 > 8472, TTL 64, ECN Not-ECT, 148 bytes, UDP checksum 0
     2 steering: the kernel's own path, foreign_vni
    VERDICT pass foreign_vni
      why      VXLAN to our address and port, but a VNI that is not ours: another device may own it.
      counter  vxgate_passed_packets_total{port="eth0",reason="foreign_vni"} +1
    "#);
}

#[test]
fn a_frame_from_the_overlay_is_traced_to_every_vtep_that_it_is_sent_to() {
    insta::assert_snapshot!(traced(&["--in", "flannel.1", "to=10.0.0.12", "dst=10.244.2.5", "proto=udp", "dport=53", "len=64", "--bytes"]), @r#"
     1 rx flannel.1: 0e:24:40:00:03:00 > 0e:24:40:00:02:00 IPv4 10.244.0.1 > 10.244.2.5 UDP 40000 > 53, TTL 64, ECN Not-ECT, 64 bytes
     2 steering: frames up to 1464 bytes fit every path, the kernel keeps frames to 1 address: to a worker
     3 fdb: 0e:24:40:00:02:00 leads to 10.0.0.12
     4 next hop: 10.0.0.12 port 8472: by 02:00:00:00:00:0c, an outer packet of 100 bytes on a path of 1500
     5 tx eth0: 02:00:00:00:00:0d > 02:00:00:00:00:0c IPv4 10.0.0.13 > 10.0.0.12 UDP 36045 > 8472, TTL 64, ECN Not-ECT, 114 bytes, UDP checksum 0, VNI 1
    VERDICT forward
      counter  vxgate_forwarded_packets_total{port="flannel.1",direction="encap"} +1
               vxgate_peer_packets_total{device="flannel.1",vni="1",peer="10.0.0.12",direction="tx"} +1
    in flannel.1
      0000: 0e 24 40 00 02 00 0e 24 40 00 03 00 08 00 45 00
      0010: 00 32 00 00 00 00 40 11 62 ce 0a f4 00 01 0a f4
      0020: 02 05 9c 40 00 35 00 1e 4b 4f 00 00 00 00 00 00
      0030: 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
    out eth0
      0000: 02 00 00 00 00 0c 02 00 00 00 00 0d 08 00 45 00
      0010: 00 64 00 01 00 00 40 11 66 70 0a 00 00 0d 0a 00
      0020: 00 0c 8c cd 21 18 00 50 00 00 08 00 00 00 00 00
      0030: 01 00 0e 24 40 00 02 00 0e 24 40 00 03 00 08 00
      0040: 45 00 00 32 00 00 00 00 40 11 62 ce 0a f4 00 01
      0050: 0a f4 02 05 9c 40 00 35 00 1e 4b 4f 00 00 00 00
      0060: 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
      0070: 00 00
    "#);
    insta::assert_snapshot!(traced(&["--in", "flannel.1", "dmac=01:00:5e:00:00:01"]), @r#"
     1 rx flannel.1: 0e:24:40:00:03:00 > 01:00:5e:00:00:01 IPv4 10.244.0.1 > 10.244.0.2 ICMP, TTL 64, ECN Not-ECT, 98 bytes
     2 steering: frames up to 1464 bytes fit every path, the kernel keeps frames to 1 address: to a worker
     3 fdb: 01:00:5e:00:00:01 leads to each of 3 VTEPs
     4 next hop: 10.0.0.11 port 8472: by 02:00:00:00:00:0b, an outer packet of 134 bytes on a path of 1500
     5 next hop: 10.0.0.12 port 8472: by 02:00:00:00:00:0c, an outer packet of 134 bytes on a path of 1500
     6 next hop: 10.0.0.14 port 8472: no_neighbour
     7 tx eth0: 02:00:00:00:00:0d > 02:00:00:00:00:0b IPv4 10.0.0.13 > 10.0.0.11 UDP 36291 > 8472, TTL 64, ECN Not-ECT, 148 bytes, UDP checksum 0, VNI 1
     8 tx eth0: 02:00:00:00:00:0d > 02:00:00:00:00:0c IPv4 10.0.0.13 > 10.0.0.12 UDP 36291 > 8472, TTL 64, ECN Not-ECT, 148 bytes, UDP checksum 0, VNI 1
    VERDICT forward
      counter  vxgate_forwarded_packets_total{port="flannel.1",direction="encap"} +1
               vxgate_flood_copies_total{port="flannel.1",direction="encap"} +1
               vxgate_flood_copies_lost_total{port="flannel.1",direction="encap"} +1
               vxgate_peer_packets_total{device="flannel.1",vni="1",peer="10.0.0.11",direction="tx"} +1
               vxgate_peer_packets_total{device="flannel.1",vni="1",peer="10.0.0.12",direction="tx"} +1
    "#);
    insta::assert_snapshot!(traced(&["--in", "flannel.1", "dmac=0e:24:40:00:05:00"]), @r#"
     1 rx flannel.1: 0e:24:40:00:03:00 > 0e:24:40:00:05:00 IPv4 10.244.0.1 > 10.244.0.2 ICMP, TTL 64, ECN Not-ECT, 98 bytes
     2 steering: frames up to 1464 bytes fit every path, the kernel keeps frames to 1 address: to a worker
     3 fdb: 0e:24:40:00:05:00 leads to nexthop group 10: one of 2 VTEPs, by the flow
     4 next hop: 10.0.0.11 port 8472: by 02:00:00:00:00:0b, an outer packet of 134 bytes on a path of 1500, not sent
     5 next hop: 10.0.0.12 port 8472: by 02:00:00:00:00:0c, an outer packet of 134 bytes on a path of 1500
     6 tx eth0: 02:00:00:00:00:0d > 02:00:00:00:00:0c IPv4 10.0.0.13 > 10.0.0.12 UDP 36291 > 8472, TTL 64, ECN Not-ECT, 148 bytes, UDP checksum 0, VNI 1
    VERDICT forward
      counter  vxgate_forwarded_packets_total{port="flannel.1",direction="encap"} +1
               vxgate_peer_packets_total{device="flannel.1",vni="1",peer="10.0.0.12",direction="tx"} +1
    "#);
    insta::assert_snapshot!(traced(&["--in", "vxg0", "to=10.0.0.14"]), @r#"
     1 rx flannel.1: 0e:24:40:00:03:00 > 0e:24:40:00:04:00 IPv4 10.244.0.1 > 10.244.0.2 ICMP, TTL 64, ECN Not-ECT, 98 bytes
     2 steering: frames up to 1464 bytes fit every path, the kernel keeps frames to 1 address: to a worker
     3 fdb: 0e:24:40:00:04:00 leads to 10.0.0.14
     4 next hop: 10.0.0.14 port 8472: no_neighbour
    VERDICT drop next_hop_unresolved
      why      The VTEP has no route, or its next hop no neighbour entry yet.
      do       `vxgate status` names the VTEP. Look for its route (`ip route get`) and neighbour (`ip neighbour`).
      counter  vxgate_drops_total{port="flannel.1",reason="next_hop_unresolved",direction="tx"} +1
    "#);
    insta::assert_snapshot!(traced(&["--in", "flannel.1", "dmac=0e:24:40:00:07:00", "len=900"]), @r#"
     1 rx flannel.1: 0e:24:40:00:03:00 > 0e:24:40:00:07:00 IPv4 10.244.0.1 > 10.244.0.2 ICMP, TTL 64, ECN Not-ECT, 900 bytes
     2 steering: the kernel's own path, kernel_route: the kernel keeps frames to 1 address
    VERDICT pass kernel_route
      why      A frame of the overlay that only the kernel brings to its VTEP: by another device, to an address of this host, without a route, or flooded to such a VTEP among others.
      counter  vxgate_passed_packets_total{port="flannel.1",reason="kernel_route"} +1
    "#);
    insta::assert_snapshot!(traced(&["--in", "flannel.1", "len=1465"]), @r#"
     1 rx flannel.1: 0e:24:40:00:03:00 > 0e:24:40:00:01:00 IPv4 10.244.0.1 > 10.244.0.2 ICMP, TTL 64, ECN Not-ECT, 1465 bytes
     2 steering: the kernel's own path, oversize: frames up to 1464 bytes fit every path
    VERDICT pass oversize
      why      A frame of the overlay that does not fit the path to some VTEP once it is encapsulated: the kernel tells its sender, fragments it or loses it, as the node is set up. Or one of the underlay that is longer than its MTU: joined, or a superframe that was never cut, which only a device with generic XDP hands over.
      counter  vxgate_passed_packets_total{port="flannel.1",reason="oversize"} +1
    "#);
    // And of the underlay: longer than its MTU.
    for (len, is_kernels) in [("len=1464", false), ("len=1465", true)] {
        let told = traced(&["--in", "eth0", len]);
        assert_eq!(told.contains("VERDICT pass oversize"), is_kernels, "{told}");
    }
    insta::assert_snapshot!(traced(&["--in", "flannel.1", "proto=arp"]), @r#"
     1 rx flannel.1: 0e:24:40:00:03:00 > ff:ff:ff:ff:ff:ff ARP, 42 bytes
     2 steering: frames up to 1464 bytes fit every path, the kernel keeps frames to 1 address: to a worker
     3 fdb: ff:ff:ff:ff:ff:ff has no entry, and there is no default destination
    VERDICT drop no_tx_target (the kernel: NO_TX_TARGET)
      why      No FDB entry for the destination, and no default destination.
      do       `bridge fdb show dev DEVICE` has no entry for the station: look at what writes it (flanneld, the CNI).
      counter  vxgate_drops_total{port="flannel.1",reason="no_tx_target",direction="tx"} +1
    "#);
}

/// A pcap file of Ethernet frames (RFC draft-ietf-opsawg-pcap).
fn pcap(frames: &[Vec<u8>]) -> Vec<u8> {
    let words =
        |words: &[u32]| -> Vec<u8> { words.iter().flat_map(|word| word.to_le_bytes()).collect() };
    let mut file = words(&[0xa1b2_c3d4, 0x0004_0002, 0, 0, 65_535, 1]);
    for frame in frames {
        let len = frame.len() as u32;
        file.extend(words(&[0, 0, len, len]));
        file.extend(frame);
    }
    file
}

/// The bytes of hexadecimal digits.
fn bytes(digits: &Value) -> Vec<u8> {
    let digits = digits.as_str().expect("digits");
    let pairs = digits.as_bytes().chunks(2);
    let pairs = pairs.map(|pair| std::str::from_utf8(pair).expect("ASCII"));
    pairs
        .map(|pair| u8::from_str_radix(pair, 16).expect("hexadecimal"))
        .collect()
}

#[test]
fn a_frame_is_traced_alike_described_in_digits_and_recorded() {
    let trace = |arguments: &[&str]| {
        let common = ["trace", "--state", STATE, "--json", "--in", "eth0"];
        let mut document = json(&[&common, arguments].concat());
        assert_eq!(document["schema"], "vxgate/1");
        document["traces"].take()
    };
    let good = trace(&["proto=tcp"])[0].take();
    let bad = trace(&["outer-src=10.0.9.99"])[0].take();
    assert_eq!(
        (&good["verdict"]["fate"], &bad["verdict"]["reason"]),
        (&Value::from("forward"), &Value::from("unknown_peer"))
    );
    let digits = good["frame"].as_str().expect("digits");
    assert_eq!(trace(&["--hex", digits])[0], good);
    // What leaves is the inner frame.
    assert_eq!(good["sent"][0]["frame"], digits[100..]);

    let folder = folder("");
    let path = folder.path().join("two.pcap");
    fs::write(&path, pcap(&[bytes(&good["frame"]), bytes(&bad["frame"])])).expect("a file");
    let path = path.to_str().expect("UTF-8");
    let mut recorded = trace(&["--pcap", path]);
    for (number, expected) in [(1, &good), (2, &bad)] {
        let one = &mut recorded[number - 1];
        assert_eq!(one["packet"].take(), number);
        assert_eq!(one, expected);
    }
    let second = trace(&["--pcap", path, "--packet", "2"]);
    assert_eq!(
        (second.as_array().map(Vec::len), &second[0]["frame"]),
        (Some(1), &bad["frame"])
    );
    insta::assert_snapshot!(traced(&["--in", "eth0", "--pcap", path]), @r#"
    1 forward  eth0: 02:00:00:00:00:02 > 02:00:00:00:00:0d IPv4 10.0.0.11 > 10.0.0.13 UDP 50000 > 8472, TTL 64, ECN Not-ECT, 160 bytes, UDP checksum 0
    2 drop unknown_peer  eth0: 02:00:00:00:00:02 > 02:00:00:00:00:0d IPv4 10.0.9.99 > 10.0.0.13 UDP 50000 > 8472, TTL 64, ECN Not-ECT, 148 bytes, UDP checksum 0
    --
    2 frames: 1 forwarded, 1 dropped, 0 left to the kernel
    "#);
}

/// The most memory that a trace has held when it says its first word, in KiB.
fn held_at_first_word(arguments: &[&str]) -> u64 {
    let mut command = vxgate(&[&["trace", "--state", STATE, "--in", "eth0"], arguments].concat());
    let mut child = command.stdout(Stdio::piped()).spawn().expect("it runs");
    let mut out = child.stdout.take().expect("it was asked for");
    out.read_exact(&mut [0]).expect("a word");
    let status = fs::read_to_string(format!("/proc/{}/status", child.id()));
    // Nobody reads on: no failure.
    drop(out);
    assert!(child.wait().expect("our child").success());
    let status = status.expect("a process that waits to be read");
    let held = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let held = held.expect("a process that has not ended").trim();
    held.trim_end_matches(" kB").parse().expect("a number")
}

#[test]
fn a_long_recording_is_told_while_it_is_traced() {
    let good = json(&["trace", "--state", STATE, "--json", "--in", "eth0"]);
    let folder = folder("");
    let frame = bytes(&good["traces"][0]["frame"]);
    for form in [&[][..], &["--json"]] {
        // The shorter one is more than a pipe holds, too: it waits until it has been looked at.
        let [short, long] = [500, 5000].map(|count| {
            let path = folder.path().join("x.pcap");
            fs::write(&path, pcap(&vec![frame.clone(); count])).expect("a file");
            let path = path.to_str().expect("UTF-8");
            held_at_first_word(&[&["--pcap", path], form].concat())
        });
        // The recording itself has some 800 KiB, and its traces thirty times that or more.
        assert!(
            long < short + 8 * 1024,
            "{form:?}: {long} KiB, and a tenth of it {short}"
        );
    }
}

#[test]
fn what_cannot_be_traced_says_why_and_exits_as_documented() {
    let folder = folder("");
    let empty = folder.path().join("x.toml");
    let empty = empty.to_str().expect("UTF-8");
    for (arguments, code, words) in [
        (
            &["--state", STATE, "--in", "eth9"][..],
            4,
            "error[VXG-0882]: eth9: no such port; there are eth0, flannel.1",
        ),
        (
            &["--state", STATE, "--in", "eth0", "scr=10.0.0.1"],
            78,
            "error[VXG-0884]: the description of the frame cannot be: scr: no such key; did you mean src?",
        ),
        (
            &["--state", STATE, "--in", "eth0", "--hex", "02z"],
            78,
            "error[VXG-0883]",
        ),
        (
            &["--state", STATE, "--in", "eth0", "--pcap", empty],
            1,
            "error[VXG-0885]",
        ),
        (
            &["--state", STATE, "--in", "eth0", "--pcap", STATE],
            1,
            "neither a pcap nor a pcapng file",
        ),
        (&["--state", empty, "--in", "eth0"], 78, "error[VXG-0881]"),
        (
            &["--state", "/none.json", "--in", "eth0"],
            1,
            "error[VXG-0880]: cannot read /none.json",
        ),
        (
            &["--state", "/dev/zero", "--in", "eth0"],
            1,
            "error[VXG-0880]: cannot read /dev/zero: longer than 512 MiB",
        ),
        (
            &["--state", "/proc", "--in", "eth0"],
            1,
            "error[VXG-0880]: cannot read /proc: Is a directory",
        ),
        (
            &["--state", STATE, "--in", "eth0", "--pcap", "/dev/zero"],
            1,
            "error[VXG-0885]: cannot read /dev/zero: longer than 256 MiB: cut it with `editcap`",
        ),
    ] {
        let (exit, out, said) = run(&mut vxgate(&[&["trace"], arguments].concat()));
        assert_eq!((exit, out.as_str()), (Some(code), ""), "{said}");
        assert!(
            said.starts_with("error[VXG-") && said.contains(words),
            "{said}"
        );
    }
}

#[test]
fn a_name_in_a_state_says_nothing_to_a_terminal() {
    let node = fs::read_to_string(STATE).expect("a state");
    let folder = folder("");
    let path = folder.path().join("state.json");
    let named = node.replace("\"eth0\"", "\"eth0\\u001b]0;mine\\u0007\"");
    assert_ne!(named, node);
    fs::write(&path, named).expect("a file");
    let path = path.to_str().expect("UTF-8");
    let told = printed(&[
        "trace",
        "--state",
        path,
        "--in",
        "flannel.1",
        "to=10.0.0.11",
        "dst=10.244.1.5",
    ]);
    assert!(told.contains("eth0\u{fffd}]0;mine\u{fffd}"), "{told}");
    let (_, _, said) = run(&mut vxgate(&["trace", "--state", path, "--in", "x"]));
    assert!(said.contains("eth0\u{fffd}]0;mine\u{fffd}"), "{said}");
    assert!(!told.contains('\u{1b}') && !said.contains('\u{1b}'));
}

#[test]
fn the_document_of_a_traced_frame_has_these_keys() {
    insta::assert_snapshot!(traced(&["--in", "flannel.1", "to=10.0.0.11", "proto=47", "len=36", "--json"]), @r#"
    {
      "schema": "vxgate/1",
      "traces": [
        {
          "packet": null,
          "port": "flannel.1",
          "role": "access",
          "frame": "0e24400001000e244000030008004500001600000000402f64cf0af400010af400020000",
          "steps": [
            {
              "stage": "rx",
              "what": "flannel.1: 0e:24:40:00:03:00 > 0e:24:40:00:01:00 IPv4 10.244.0.1 > 10.244.0.2 protocol 47, TTL 64, ECN Not-ECT, 36 bytes"
            },
            {
              "stage": "steering",
              "what": "frames up to 1464 bytes fit every path, the kernel keeps frames to 1 address: to a worker"
            },
            {
              "stage": "fdb",
              "what": "0e:24:40:00:01:00 leads to 10.0.0.11"
            },
            {
              "stage": "next_hop",
              "what": "10.0.0.11 port 8472: by 02:00:00:00:00:0b, an outer packet of 72 bytes on a path of 1500"
            },
            {
              "stage": "tx",
              "what": "eth0: 02:00:00:00:00:0d > 02:00:00:00:00:0b IPv4 10.0.0.13 > 10.0.0.11 UDP 36291 > 8472, TTL 64, ECN Not-ECT, 86 bytes, UDP checksum 0, VNI 1"
            }
          ],
          "verdict": {
            "fate": "forward",
            "reason": null,
            "kernel_name": null,
            "meaning": null,
            "action": null
          },
          "counters": [
            {
              "name": "vxgate_forwarded_packets_total",
              "labels": {
                "port": "flannel.1",
                "direction": "encap"
              },
              "by": 1
            },
            {
              "name": "vxgate_peer_packets_total",
              "labels": {
                "device": "flannel.1",
                "vni": "1",
                "peer": "10.0.0.11",
                "direction": "tx"
              },
              "by": 1
            }
          ],
          "sent": [
            {
              "port": "eth0",
              "vtep": "10.0.0.11",
              "udp_port": 8472,
              "vni": 1,
              "mark": null,
              "frame": "02000000000b02000000000d080045000048000100004011668d0a00000d0a00000b8dc321180034000008000000000001000e24400001000e244000030008004500001600000000402f64cf0af400010af400020000"
            }
          ],
          "notes": []
        }
      ]
    }
    "#);
}

#[test]
fn a_state_and_a_traced_frame_are_as_their_schemas_say() {
    for (name, text) in [
        (
            "state-dump",
            fs::read_to_string(STATE).expect("a readable file"),
        ),
        ("trace", traced(&["--in", "eth0", "--json"])),
        ("trace", traced(&["--in", "eth0", "outer-ecn=ce", "--json"])),
        ("trace", traced(&["--in", "eth0", "vni=7", "--json"])),
        ("trace", traced(&["--in", "flannel.1", "--json"])),
    ] {
        let mut compiler = boon::Compiler::new();
        compiler
            .add_resource("x.json", json(&["schema", name]))
            .expect("a resource");
        let mut schemas = boon::Schemas::new();
        let index = compiler.compile("x.json", &mut schemas).expect("a schema");
        let document: Value = serde_json::from_str(&text).expect("JSON");
        if let Err(error) = schemas.validate(&document, index) {
            panic!("{name}: {error}\n{document:#}");
        }
        let mut wrong = document;
        wrong["schema"] = "vxgate/0".into();
        assert!(schemas.validate(&wrong, index).is_err(), "{name}");
    }
}
