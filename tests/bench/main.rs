//! The load generator against itself: what it sends is what it says it received, on wires that are whole and on wires that
//! do a known wrong.

mod frames;
mod sink;
