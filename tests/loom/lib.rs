//! The gateway's publication of the table, and in the table's place only what the publication knows of it.

#[path = "../../src/table/publish.rs"]
pub mod publish;

/// Stands for a table.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// How many were published before it.
    pub generation: u64,
}
