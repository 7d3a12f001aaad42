//! What became of frames, by reason, and whether it adds up.

use std::collections::BTreeMap;

/// All of them.
pub(super) fn total(counts: &BTreeMap<String, u64>) -> u64 {
    counts.get("total").copied().unwrap_or(0)
}

/// The reasons that happened.
pub(super) fn counted(counts: &BTreeMap<String, u64>) -> impl Iterator<Item = (&str, u64)> {
    let counts = counts
        .iter()
        .map(|(reason, count)| (reason.as_str(), *count));
    counts.filter(|(reason, count)| *reason != "total" && *count > 0)
}

/// Whether it adds up, in words.
pub(super) fn verdict(balance_ok: bool) -> &'static str {
    if balance_ok {
        "balance OK"
    } else {
        "BALANCE BROKEN"
    }
}
