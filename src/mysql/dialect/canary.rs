//! The texts of the write canary.

/// Takes the canary's lock; 1: taken.
pub const LOCK: &str = "SELECT GET_LOCK('baton.canary', 0) AS answer";

/// Whether there is a table; making one that exists would be logged.
pub const TABLE: &str = "SELECT COUNT(*) AS answer FROM information_schema.TABLES \
    WHERE TABLE_SCHEMA = 'baton' AND TABLE_NAME = 'canary'";

/// Makes the table.
pub const MAKE: [&str; 2] = [
    "CREATE DATABASE IF NOT EXISTS baton",
    "CREATE TABLE IF NOT EXISTS baton.canary (id TINYINT UNSIGNED NOT NULL PRIMARY KEY, \
     beat BIGINT UNSIGNED NOT NULL) ENGINE = InnoDB",
];

/// Whether ordinary clients may write; 1: they may.
pub const WRITABLE: &str = "SELECT @@global.read_only = 0 AS answer";

/// What is committed.
pub const WRITE: &str = "INSERT INTO baton.canary (id, beat) VALUES (1, 1) ON DUPLICATE KEY UPDATE beat = beat + 1";
