//! `vxgate bench rate` as people run it.

use crate::run::{measured, number, rate, refused};
use crate::traffic::check_whole;
use crate::wire::{Wire, kernel_received};

#[test]
fn a_wire_loses_nothing_by_either_engine_and_the_document_says_so() {
    let wire = Wire::new("command");
    let before = kernel_received(&wire.far, "far0");
    let mut sent = 0;
    for (engine, traffic) in [
        ("live", "--flows 1000 --size imix"),
        ("afxdp", "--vni 1-4000 --flows 4000 --size 64,256"),
        ("auto", "--ipv6 --proto tcp --size 128"),
    ] {
        let document = measured(
            &wire,
            &format!("--engine {engine} {traffic} --rate 20k --duration 0.2"),
        );
        assert_eq!(document["schema"], "vxgate-bench/1");
        let trial = &document["trials"][0];
        sent += check_whole(&document, 4000);
        let latency = &trial["latency"];
        assert!(number(&latency["p50_ns"]) <= number(&latency["max_ns"]));
        if engine != "auto" {
            assert_eq!(document["engine"], engine);
        }
    }
    // By the kernel's own count, which also has what the receiving end's neighbours say.
    assert!(kernel_received(&wire.far, "far0") - before >= sent);
}

/// Either receiver says the same of a wire, and the one that sees all bytes has found nothing.
#[test]
fn either_receiver_can_be_asked_for() {
    let wire = Wire::with_queues("receivers", 2);
    for receiver in ["xdp", "afxdp"] {
        let flags = format!("--receiver {receiver} --vni 1-9 --flows 9 --rate 5k --duration 0.2");
        let document = measured(&wire, &flags);
        let name = document["receiver"].as_str().unwrap();
        assert!(name.starts_with(receiver), "{name}");
        let trial = &document["trials"][0];
        let total = &trial["books"]["total"];
        assert_eq!(total["sent"], total["received"], "{document}");
        let inspection = &trial["inspection"];
        if receiver == "xdp" {
            assert!(inspection.is_null(), "{inspection}");
            continue;
        }
        assert_eq!(inspection["inspected"], total["sent"]);
        let counts = inspection.as_object().unwrap();
        let found = counts
            .iter()
            .filter(|(kind, count)| *kind != "inspected" && **count != 0);
        assert_eq!(found.count(), 0, "{inspection}");
    }
    let output = rate(&wire, "--receiver afxdp --rx-core 0 --duration 0.1");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.contains("sink afxdp, copying, native") && text.contains("   in full\n"),
        "{text}"
    );
}

#[test]
fn the_table_is_for_people() {
    let wire = Wire::new("table");
    let output = rate(&wire, "--duration 0.1");
    let text = String::from_utf8(output.stdout).unwrap();
    for words in [
        "  engine    ",
        "  sent  ",
        "  received  ",
        "  lost                 0   0.0000 %",
        "  latency   p50 ",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
}

#[test]
fn what_would_reach_strangers_needs_a_word() {
    let wire = Wire::new("guard");
    let (code, words) = refused(&wire, "--dst 192.0.2.1");
    assert_eq!(code, Some(78));
    assert!(
        words.contains("192.0.2.1") && words.contains("--i-know-this-network"),
        "{words}"
    );
    // The namespace's own network is a lab.
    wire.near.run("ip addr add 192.0.2.10/24 dev near0");
    measured(&wire, "--dst 192.0.2.1 --duration 0.01");
    wire.near.run("ip route add default via 192.0.2.1");
    let (code, words) = refused(&wire, "");
    assert_eq!(code, Some(78));
    assert!(
        words.contains("default route") && words.contains("near0"),
        "{words}"
    );
    measured(&wire, "--i-know-this-network --duration 0.01");
}

#[test]
fn what_cannot_be_sent_is_told_with_what_can() {
    let wire = Wire::new("refused");
    for (flags, code, words) in [
        ("--flows 100000", 78, "--src-port"),
        ("--proto tcp", 78, "the smallest is 74"),
        ("--rate 80%", 78, "--line-rate"),
        ("--size 9000", 1, "MTU"),
        ("--rate fast", 2, "1.5Mfps"),
        ("--receiver afxdp --rx-core 4000", 1, "no core 4000"),
        ("--vtep-src 198.18.0.1", 2, "--vni"),
    ] {
        let (found, said) = refused(&wire, flags);
        assert_eq!(found, Some(code), "{flags}: {said}");
        assert!(said.contains(words), "{flags}: {said}");
    }
}
