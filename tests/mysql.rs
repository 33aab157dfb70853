//! The MySQL shell on real servers of each series: looks, actions, and every way a look fails.
#![allow(clippy::print_stdout, reason = "how long things took is printed")]
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "mysql/actions.rs"]
mod actions;
#[path = "mysql/admin.rs"]
mod admin;
#[path = "mysql/clone.rs"]
mod clone;
#[path = "mysql/export.rs"]
mod export;
#[path = "mysql/failures.rs"]
mod failures;
#[path = "mysql/grants.rs"]
mod grants;
#[path = "mysql/looks.rs"]
mod looks;
#[path = "mysql/reign.rs"]
mod reign;
#[path = "mysql/relocation.rs"]
mod relocation;
#[path = "mysql/repair.rs"]
mod repair;
#[path = "mysql/repoint.rs"]
mod repoint;
#[path = "mysql/semi_sync.rs"]
mod semi_sync;
#[path = "mysql/setup.rs"]
mod setup;
#[path = "mysql/stall.rs"]
mod stall;
#[path = "mysql/whole.rs"]
mod whole;
