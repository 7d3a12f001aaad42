//! The load generator: the other end of the wire, and an independent judge. It shares no code with what it judges.

pub mod books;
pub mod comparison;
pub mod cpu;
pub mod csv;
pub mod engine;
pub mod gap;
pub mod guard;
pub mod headers;
pub mod host;
pub mod memory;
pub mod mlrsearch;
pub mod order;
pub mod profile;
pub mod range;
pub mod rate;
pub mod recording;
pub mod report;
pub mod signature;
pub mod size;
