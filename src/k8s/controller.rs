//! Controllers: one folder of steps per kind. What needs the API server (dereference, write) and what
//! does not (validate, render) are different files.

pub mod change;
pub mod claims;
pub mod dereference;
pub mod mysql_cluster;
pub mod once;
pub mod reconcile;
pub mod show;
pub mod status;
pub mod validate;
