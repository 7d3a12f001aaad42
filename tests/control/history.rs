//! A random history of everything.

use crate::lab;
use crate::lab::mac;

/// G7: whatever happened before, the mirror is where one that starts now would be.
#[test]
fn g07_a_random_history_ends_where_a_fresh_start_begins() {
    let lab = lab();
    for (last, gateway) in [(0x53, "10.9.0.253"), (0x54, "10.9.0.254")] {
        lab.in_a(&format!(
            "neigh add {gateway} lladdr {} dev u0 nud permanent",
            mac(last)
        ));
    }
    lab.in_a("nexthop add id 101 via 10.9.0.2 fdb");
    let mut mirror = lab.mirror();
    let mut random = Random(0x5eed_0007);
    for round in 0..12 {
        for _ in 0..12 {
            let command = operation(&mut random);
            // Many fail, as an operator's do: there is nothing to delete, or it is there already.
            let words = command.replace("NS", &lab.a);
            let mut words = words.split_whitespace();
            std::process::Command::new(words.next().unwrap())
                .args(words)
                .output()
                .unwrap();
        }
        mirror.until_fresh(&lab);
        assert!(round < 1 || mirror.running.report().events > 0);
    }
    let report = mirror.running.report();
    assert!(
        report.publications > 12,
        "the history did something: {report:?}"
    );
}

/// A small generator with a fixed seed: the same history in every run.
struct Random(u64);

impl Random {
    /// A number below `end` (xorshift64).
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

fn operation(random: &mut Random) -> String {
    let address = mac(1 + random.below(4) as u8);
    let vtep = [
        "10.9.0.2",
        "10.9.0.3",
        "10.20.0.5",
        "10.20.0.6",
        "10.9.0.77",
    ][random.below(5) as usize];
    let gateway = ["10.9.0.253", "10.9.0.254"][random.below(2) as usize];
    match random.below(18) {
        0..3 => format!("bridge -n NS fdb replace {address} dev vx1 dst {vtep} self permanent"),
        3 => format!("bridge -n NS fdb add {address} dev vx1 dst {vtep} self dynamic"),
        4 => format!("bridge -n NS fdb del {address} dev vx1 self"),
        5 => format!("bridge -n NS fdb append 00:00:00:00:00:00 dev vx1 dst {vtep} self permanent"),
        6 => format!("bridge -n NS fdb del 00:00:00:00:00:00 dev vx1 dst {vtep} self"),
        7 => format!("bridge -n NS fdb add {address} dev vx1 nhid 200 self permanent"),
        8 => "ip -n NS nexthop add id 200 group 101 fdb".into(),
        9 => "ip -n NS nexthop del id 200".into(),
        10 => format!("ip -n NS route replace 10.20.0.0/24 via {gateway}"),
        11 => format!("ip -n NS route replace 10.20.0.5/32 via {gateway}"),
        12 => "ip -n NS route del 10.20.0.5/32".into(),
        13 => "ip -n NS link set u0 down".into(),
        14 => "ip -n NS link set u0 up".into(),
        15 => format!(
            "ip -n NS link set vx1 type vxlan id 1 ttl {}",
            1 + random.below(200)
        ),
        16 => format!("ip -n NS neigh replace 10.9.0.77 lladdr {address} dev u0 nud permanent"),
        _ => "bridge -n NS fdb flush dev vx1".into(),
    }
}
