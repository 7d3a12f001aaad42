//! All that `vxgate bench` can send, as people ask for it.

use std::fs;

use serde_json::Value;

use crate::run::{measured, number, refused};
use crate::wire::Wire;

/// What was sent came whole and in order, and every intended time is accounted for; how many were sent.
pub fn check_whole(document: &Value, intended: u64) -> u64 {
    let trial = &document["trials"][0];
    let total = &trial["books"]["total"];
    assert_eq!(total["sent"], total["received"], "{document}");
    for fate in [
        "lost",
        "duplicated",
        "reordered",
        "corrupted",
        "misdelivered",
    ] {
        assert_eq!(total[fate], 0, "{fate}: {document}");
    }
    let sent = number(&total["sent"]);
    assert_eq!(sent + number(&trial["late"]), intended);
    assert!(sent > 0);
    sent
}

#[test]
fn a_profile_sends_its_streams_in_their_shares() {
    let wire = Wire::new("profile");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mix.toml");
    let profile = r#"
        [[stream]]
        name = "overlay"
        share = 3
        vni = "1-100"
        flows = 400
        size = [64, "570:4", 1518]

        [[stream]]
        name = "plain"
        ipv6 = true
        proto = "tcp"
        flows = 50
        order = "random"
        seed = 42
        size = 128

        [[stream]]
        share = 2
        proto = "icmp"
        vni = 7
        vtep-src = "2001:2::1"
        vxlan-port = 4789
    "#;
    fs::write(&file, profile).unwrap();
    for engine in ["live", "afxdp"] {
        let flags = format!(
            "--profile {} --engine {engine} --rate 6k --duration 0.2",
            file.display()
        );
        let document = measured(&wire, &flags);
        let sent = check_whole(&document, 1200);
        let by_stream = document["trials"][0]["books"]["streams"]
            .as_array()
            .unwrap();
        for (fates, share) in by_stream.iter().zip([3, 1, 2]) {
            assert!(
                number(&fates["sent"]).abs_diff(sent / 6 * share) <= 2 * share,
                "{document}"
            );
        }
        let streams = document["traffic"].as_array().unwrap();
        let names: Vec<_> = streams
            .iter()
            .map(|stream| stream["name"].as_str().unwrap())
            .collect();
        assert_eq!(names, ["overlay", "plain", "2"]);
        assert_eq!(streams[1]["seed"], 42);
    }
    let flags = format!("--profile {} --flows 3", file.display());
    assert_eq!(refused(&wire, &flags).0, Some(2));
    fs::write(&file, "[[stream]]\nflows = 2\nvnl = 3\n").unwrap();
    let (code, words) = refused(&wire, &format!("--profile {}", file.display()));
    assert_eq!(code, Some(78));
    assert!(
        words.contains("mix.toml:3:1: vnl: no such key; did you mean vni?"),
        "{words}"
    );
    fs::write(&file, "[[stream]]\nname = 'small'\nproto = 'tcp'\n").unwrap();
    let (code, words) = refused(&wire, &format!("--profile {}", file.display()));
    assert_eq!(code, Some(78));
    assert!(words.contains("stream small: size 64"), "{words}");
}

/// The sizes that benchmarks name, each in every shape.
#[test]
fn every_size_of_every_shape_arrives_whole() {
    let wire = Wire::new("sizes");
    wire.far.run("ip link set far0 mtu 9200");
    wire.near.run("ip link set near0 mtu 9200");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("shapes.toml");
    for size in ["'128'", "'256,512,1024'", "'1280,1518'", "'9000'"] {
        let mut profile = String::new();
        for outer in ["", "vni = 9", "vni = 9\nvtep-src = '2001:2::1'"] {
            // ICMP over IPv6 is as long as UDP.
            for inner in [
                "proto = 'udp'",
                "proto = 'tcp'",
                "ipv6 = true\nproto = 'icmp'",
                "ipv6 = true\nproto = 'tcp'",
            ] {
                profile.push_str(&format!(
                    "[[stream]]\nsize = {size}\nflows = 5\n{outer}\n{inner}\n"
                ));
            }
        }
        fs::write(&file, profile).unwrap();
        let flags = format!("--profile {} --rate 6k --duration 0.1", file.display());
        let document = measured(&wire, &flags);
        check_whole(&document, 600);
        // Of what goes, the one that is cheaper here; it says why.
        let engine = if size == "'9000'" { "afxdp" } else { "live" };
        assert_eq!(document["engine"], engine, "{document}");
        if engine == "afxdp" {
            assert!(
                document["engine_reason"]
                    .as_str()
                    .unwrap()
                    .contains("too long for live"),
                "{document}"
            );
        }
    }
    for (flags, mean) in [
        ("--size 64", 60.0),
        ("--size imix", 349.8),
        ("--size imix --vni 1", 399.8),
    ] {
        let document = measured(
            &wire,
            &format!("{flags} --flows 7 --rate 6k --duration 0.1"),
        );
        let received = check_whole(&document, 600);
        let bits = document["trials"][0]["received_bps"].as_f64().unwrap();
        let seconds = document["trials"][0]["duration_s"].as_f64().unwrap();
        let found = bits * seconds / 8.0 / received as f64 - 4.0;
        assert!((found - mean).abs() < 12.0, "{flags}: {found}");
    }
}

/// A share of the line is one of the frames as they leave, whatever is in them.
#[test]
fn a_rate_in_bits_is_that_of_the_mix_on_the_wire() {
    let wire = Wire::new("bits");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bits.toml");
    fs::write(
        &file,
        "[[stream]]\nsize = 480\n[[stream]]\nsize = 470\nvni = 1\n",
    )
    .unwrap();
    // 500 bytes with preamble and gap, and 540: 520 x 8 bits of 416 Mbit/s in 0.01 s.
    let flags = format!(
        "--profile {} --line-rate 1 --rate 41.6% --duration 0.01",
        file.display()
    );
    let document = measured(&wire, &flags);
    assert_eq!(document["trials"][0]["asked_fps"], 100_000.0);
}
