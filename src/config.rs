//! Raw settings to a validated `Config`.
