//! The load generator against itself: what it sends is what it says it received, on wires that are whole and on wires that
//! do a known wrong.

#[path = "../support/mod.rs"]
mod support;

mod agreement;
mod browser;
mod command;
mod compare;
mod control;
mod delay;
mod disrupt;
mod faults;
mod frames;
mod generator;
mod inspector;
mod limits;
mod listener;
mod page;
mod recording;
mod run;
mod search;
mod sink;
mod soak;
mod traffic;
mod wire;
