//! The texts that overwrite a server with the data of another one.

use std::collections::BTreeMap;

use super::quote;
use crate::core::{gtid::GtidSet, id::ServerAddr};

/// Global settings that a copy's two servers must have alike.
pub const ALIKE: &str = "SELECT @@innodb_page_size AS innodb_page_size, @@character_set_server AS character_set_server, \
                         @@collation_server AS collation_server, @@lower_case_table_names AS lower_case_table_names";
/// What differs when it differs, by column.
pub const ALIKE_NAMES: [&str; 4] =
    ["innodb_page_size", "character_set_server", "collation_server", "lower_case_table_names"];

/// Whether the plugin is active; who is asked.
pub const PLUGIN: &str = "SELECT COUNT(*) AS active, CURRENT_USER() AS account FROM information_schema.PLUGINS \
                          WHERE PLUGIN_NAME = 'clone' AND PLUGIN_STATUS = 'ACTIVE'";

/// A table that a copy would leave empty.
pub const FOREIGN: &str = "SELECT CONCAT(TABLE_SCHEMA, '.', TABLE_NAME) AS name FROM information_schema.TABLES \
                           WHERE TABLE_TYPE = 'BASE TABLE' AND ENGINE <> 'InnoDB' AND TABLE_SCHEMA NOT IN \
                           ('mysql', 'sys', 'performance_schema', 'information_schema') LIMIT 1";

/// Rights of the account, of its roles too.
pub const GRANTS: &str = "SHOW GRANTS";

/// Loads the plugin.
pub const LOAD: &str = "INSTALL PLUGIN clone SONAME 'mysql_clone.so'";

/// The newest copy that the server received, and the connection that does it, while there is one.
pub const STATUS: &str = "SELECT c.STATE AS state, t.PROCESSLIST_ID AS session, c.ERROR_MESSAGE AS error \
                          FROM performance_schema.clone_status c \
                          LEFT JOIN performance_schema.threads t ON t.PROCESSLIST_ID = c.PID AND t.PROCESSLIST_COMMAND = 'Query'";

/// Takes the right to overwrite this server, which goes with the session; 1: taken.
pub const LOCK: &str = "SELECT GET_LOCK('baton.rebuild', 0) AS locked";

/// Lets the recipient check the donor's certificate as it checks its source's.
pub const CHECK_CERTIFICATES: &str = "SET GLOBAL clone_ssl_ca = @@ssl_ca";

/// Everything that must hold on the recipient in the moment in which it begins.
#[derive(Debug)]
pub struct Guard<'a> {
    /// `server_uuid`.
    pub uuid: &'a str,
    /// What it has alone.
    pub extra: &'a GtidSet,
    /// All that it may have.
    pub allowed: &'a GtidSet,
}

/// The one text that discards what a server has. Its first statement fails unless everything still holds there, by the
/// server's own clock too (as in [`super::reign::unfence`]), and the server runs no statement of a text after one that
/// failed.
#[must_use]
pub fn begin(guard: &Guard<'_>, donor: &ServerAddr, user: &str, password: &str, encrypted: bool) -> String {
    let Guard { uuid, extra, allowed } = guard;
    let list = quote(&format!("{}:{}", donor.host(), donor.port()));
    // Without it the server encrypts where it can.
    let secure = if encrypted { " REQUIRE SSL" } else { "" };
    format!(
        "SET GLOBAL clone_valid_donor_list = IF(SYSDATE(6) < CAST(@baton_deadline AS DATETIME(6)) \
         AND IS_USED_LOCK('baton.rebuild') = CONNECTION_ID() AND IS_FREE_LOCK('baton.claim') \
         AND @@global.server_uuid = {} AND @@global.read_only AND @@global.offline_mode \
         AND GTID_SUBSET({}, @@global.gtid_executed) AND GTID_SUBSET(@@global.gtid_executed, {}), \
         {list}, (SELECT 1 UNION SELECT 2)); \
         CLONE INSTANCE FROM {}@{}:{} IDENTIFIED BY {}{secure}",
        quote(uuid),
        quote(&extra.to_string()),
        quote(&allowed.to_string()),
        quote(user),
        quote(donor.host()),
        donor.port(),
        quote(password),
    )
}

/// The number of the server's error when a condition of [`begin`] did not hold.
pub const REFUSED: u16 = 1242;
/// The copy is there, and nobody started the server again.
pub const NOT_RESTARTED: u16 = 3707;

/// What a row of [`ALIKE`] says.
pub fn alike<'a>(text: impl Fn(&'static str) -> Option<String> + 'a) -> BTreeMap<String, String> {
    ALIKE_NAMES.into_iter().map(|name| (name.to_owned(), text(name).unwrap_or_default())).collect()
}
