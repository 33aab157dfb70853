//! The simulated server against real ones: the same scripts of actions, writes, crashes and freezes are
//! played on both, and what is answered and seen is compared line by line. What the simulation proves rests
//! on this (docs/safety.md, "How it is shown"; the rules M1-M10 are what was measured on 9.7.4).
#![allow(
    missing_docs,
    unreachable_pub,
    dead_code,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout
)]

#[path = "contract/real.rs"]
mod real;
#[path = "contract/script.rs"]
mod script;
#[path = "contract/scripts.rs"]
mod scripts;
#[path = "contract/simulated.rs"]
mod simulated;
#[path = "simulation/world.rs"]
mod world;
