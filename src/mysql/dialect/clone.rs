//! The texts that overwrite a server with the data of another one.

use std::collections::BTreeMap;

use super::quote;
use crate::core::{gtid::GtidSet, id::ServerAddr, version::Version};

/// Global settings that a copy's two servers must have alike.
pub const ALIKE: &str = "SELECT @@innodb_page_size AS innodb_page_size, @@character_set_server AS character_set_server, \
                         @@collation_server AS collation_server, @@lower_case_table_names AS lower_case_table_names";
/// What differs when it differs, by column.
pub const ALIKE_NAMES: [&str; 4] =
    ["innodb_page_size", "character_set_server", "collation_server", "lower_case_table_names"];

/// Whether the server refuses everybody's writes, and that was not set while it ran but by its own configuration.
const CLOSED_SINCE_START: &str = "(@@global.super_read_only AND (SELECT COUNT(*) FROM performance_schema.variables_info \
                                  WHERE VARIABLE_NAME = 'super_read_only' AND VARIABLE_SOURCE IN ('COMMAND_LINE', \
                                  'GLOBAL', 'SERVER', 'EXPLICIT', 'EXTRA', 'LOGIN', 'PERSISTED')) = 1)";

/// Whether the plugin is active; who is asked; since when it refuses writes; whether it refuses changes of tables while
/// it is copied.
#[must_use]
pub fn facts() -> String {
    format!(
        "SELECT (SELECT COUNT(*) FROM information_schema.PLUGINS WHERE PLUGIN_NAME = 'clone' \
         AND PLUGIN_STATUS = 'ACTIVE') AS active, CURRENT_USER() AS account, {CLOSED_SINCE_START} AS closed, \
         (SELECT COUNT(*) FROM performance_schema.global_variables WHERE VARIABLE_NAME = 'clone_block_ddl' \
         AND VARIABLE_VALUE = 'ON') AS blocks"
    )
}

/// Which databases the binary log leaves out.
#[must_use]
pub fn binlog_status(version: Version) -> &'static str {
    if version.series() >= (8, 2) { "SHOW BINARY LOG STATUS" } else { "SHOW MASTER STATUS" }
}

/// A table that a copy would leave empty.
pub const FOREIGN: &str = "SELECT CONCAT(TABLE_SCHEMA, '.', TABLE_NAME) AS name FROM information_schema.TABLES \
                           WHERE TABLE_TYPE = 'BASE TABLE' AND ENGINE <> 'InnoDB' AND TABLE_SCHEMA NOT IN \
                           ('mysql', 'sys', 'performance_schema', 'information_schema') LIMIT 1";

/// Rights of the account, of its roles too.
pub const GRANTS: &str = "SHOW GRANTS";

/// The newest copy that the server received, and the connection that does it, while there is one.
pub const STATUS: &str = "SELECT c.STATE AS state, t.PROCESSLIST_ID AS session, c.ERROR_MESSAGE AS error, \
                          TIMESTAMPDIFF(MICROSECOND, c.BEGIN_TIME, NOW(6)) DIV 1000 AS took_ms FROM performance_schema.clone_status c \
                          LEFT JOIN performance_schema.threads t ON t.PROCESSLIST_ID = c.PID AND t.PROCESSLIST_COMMAND = 'Query'";

/// Takes the right to overwrite this server, which goes with the session; 1: taken.
pub const LOCK: &str = "SELECT GET_LOCK('baton.rebuild', 0) AS locked";

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

/// How a server is overwritten.
#[derive(Debug)]
pub struct Copy<'a> {
    /// Whose data it gets.
    pub donor: &'a ServerAddr,
    /// The account there.
    pub user: &'a str,
    /// Its password.
    pub password: &'a str,
    /// Nothing goes over the wire in clear text.
    pub encrypted: bool,
    /// The donor's certificate is checked as that of its source is.
    pub verify: bool,
    /// It has a channel, whose receiver may run.
    pub replica: bool,
}

/// The statements, sent as one text, that discard what a server has. The first fails unless everything holds there, by
/// the server's own clock too (as in [`super::reign::unfence`]), and the server runs no statement of a text after one that
/// failed: a server that is not as it was judged is not touched. The last but one asks once more, for in between
/// administrators may write. `@baton_rebuild` tells whether anything was changed.
#[must_use]
pub fn begin(guard: &Guard<'_>, copy: &Copy<'_>) -> Vec<String> {
    let Guard { uuid, extra, allowed } = guard;
    let donor = copy.donor;
    let list = quote(&format!("{}:{}", donor.host(), donor.port()));
    let holds = format!(
        "SYSDATE(6) < CAST(@baton_deadline AS DATETIME(6)) \
         AND IS_USED_LOCK('baton.rebuild') = CONNECTION_ID() AND IS_FREE_LOCK('baton.claim') \
         AND @@global.server_uuid = {} AND GTID_SUBSET({}, @@global.gtid_executed) \
         AND GTID_SUBSET(@@global.gtid_executed, {})",
        quote(uuid),
        quote(&extra.to_string()),
        quote(&allowed.to_string()),
    );
    let mut texts = vec![
        format!(
            "SET @baton_rebuild = IF({holds} AND @@global.read_only AND {CLOSED_SINCE_START}, 1, \
             (SELECT 1 UNION SELECT 2)), @baton_offline = @@global.offline_mode"
        ),
        "SET GLOBAL offline_mode = ON".to_owned(),
    ];
    if copy.replica {
        texts.push("STOP REPLICA".to_owned());
    }
    if copy.verify {
        texts.push("SET GLOBAL clone_ssl_ca = @@ssl_ca".to_owned());
    }
    texts.push("SET GLOBAL super_read_only = OFF".to_owned());
    texts.push(format!(
        "SET GLOBAL clone_valid_donor_list = IF({holds} AND @@global.read_only AND @@global.offline_mode, {list}, \
         (SELECT 1 UNION SELECT 2))"
    ));
    // Without it the server encrypts where it can.
    let secure = if copy.encrypted { " REQUIRE SSL" } else { "" };
    texts.push(format!(
        "CLONE INSTANCE FROM {}@{}:{} IDENTIFIED BY {}{secure}",
        quote(copy.user),
        quote(donor.host()),
        donor.port(),
        quote(copy.password),
    ));
    texts
}

/// Whether [`begin`] has changed anything, by the session that said it.
pub const TOUCHED: &str = "SELECT @baton_rebuild IS NOT NULL AS touched";

/// Whether it refuses everybody's writes.
pub const CLOSED: &str = "SELECT @@global.super_read_only AS closed";

/// Refuses everybody's writes again on the server that was to be overwritten, and lets clients in as before where the
/// session is the one of [`begin`]. One that somebody has opened since is left.
#[must_use]
pub fn undo(uuid: &str) -> String {
    let same = format!("@@global.server_uuid = {} AND @@global.read_only", quote(uuid));
    format!(
        "SET GLOBAL super_read_only = IF({same}, 1, @@global.super_read_only), \
         GLOBAL offline_mode = IF({same} AND @baton_offline = 0, 0, @@global.offline_mode)"
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
