//! Every requirement of the wire has a test that carries its id in its name.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// VXLAN and outer headers; IPv6 checksums; MTU; where kernel and RFC differ. P7 (rate limits) and P9 (MSS) are not the
/// wire's: the kernel sends the errors, and nothing is clamped.
fn required() -> impl Iterator<Item = String> {
    let series = [
        ('v', 1..=12),
        ('u', 1..=3),
        ('p', 1..=6),
        ('p', 8..=8),
        ('d', 1..=17),
    ];
    series
        .into_iter()
        .flat_map(|(letter, numbers)| numbers.map(move |number| format!("{letter}{number:02}")))
}

#[test]
fn every_requirement_is_in_the_name_of_a_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut ids = BTreeSet::new();
    for folder in ["src", "tests"] {
        collect(&root.join(folder), &mut ids);
    }
    let missing: Vec<_> = required().filter(|id| !ids.contains(id)).collect();
    assert!(missing.is_empty(), "no test carries {missing:?}");
}

/// The ids at the beginning of names of several words, as `v02` and `d04` of `fn v02_d04_…`.
fn collect(folder: &Path, ids: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() && !path.ends_with("target") {
            collect(&path, ids);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("UTF-8");
            let code = text
                .lines()
                .map(|line| line.split("//").next().unwrap_or(""));
            for name in code
                .flat_map(|line| line.split(|c: char| !c.is_alphanumeric() && c != '_'))
                .filter(|name| name.matches('_').count() > 1)
            {
                ids.extend(
                    name.split('_')
                        .take_while(|part| is_id(part))
                        .map(str::to_owned),
                );
            }
        }
    }
}

/// A letter and two digits.
fn is_id(part: &str) -> bool {
    let digits = part.strip_prefix(['v', 'u', 'p', 'd']).unwrap_or("");
    digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_digit())
}
