//! What is aimed at.

/// Nanoseconds an element, by name: frames of 64 bytes to and from 64 k VTEPs in random order, their memory far beyond the
/// second-level cache.
const TARGETS: &[(&str, f64)] = &[
    ("encap/64k/64", 15.0),
    ("decap/64k/64", 15.0),
    ("turn/encap-64k/64", 40.0),
    ("turn/decap-64k/64", 40.0),
];

/// The target of a benchmark, in nanoseconds an element.
pub fn target(name: &str) -> Option<f64> {
    let row = TARGETS.iter().find(|(of, _)| *of == name)?;
    Some(row.1)
}
