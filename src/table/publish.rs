//! How one writer hands snapshots to many readers.
/// The reading end.
#[derive(Debug)]
pub struct Reader;
/// The writing end.
#[derive(Debug)]
pub struct Writer;
/// Makes both ends.
pub fn publication() {}
