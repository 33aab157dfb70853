//! The MySQL shell: sessions with deadlines, looks, and the SQL behind every action.
//!
//! Everything a server says is data; everything Baton says to a server is made in [`dialect`].

pub mod binlog;
pub mod canary;
pub mod clone;
pub mod dialect;
pub mod error;
pub mod execute;
pub mod look;
pub mod options;
mod rows;
pub mod session;
pub mod watch;
