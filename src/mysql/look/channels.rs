//! Replication channels as a look's rows show them.

use mysql_async::Row;

use super::{
    super::{dialect::look::Part, rows::Named},
    Answer, Kept,
};
use crate::core::{
    gtid::GtidSet,
    id::ServerAddr,
    observation::{Channel, Receiver, ThreadError},
};

impl Answer {
    /// All of them; `None`: what the server says cannot be used.
    pub(super) fn channels(&self, kept: &mut Kept) -> Option<Vec<Channel>> {
        let channel = |row| {
            let mut channel = self.channel(&Named(row), kept)?;
            if let Some(half) = self.half_received(&Named(row), &channel, kept) {
                channel.received = channel.received.subtract(&half);
            }
            Some(channel)
        };
        self.rows(Part::Channels).iter().map(channel).collect()
    }

    fn channel(&self, row: &Named<'_>, kept: &mut Kept) -> Option<Channel> {
        let name = row.text(&["Channel_Name", "Connection_name"]).unwrap_or_default();
        let host = row.text(&["Source_Host", "Master_Host"])?;
        let port = row.number(&["Source_Port", "Master_Port"])?;
        let received = row.text(&["Retrieved_Gtid_Set", "Gtid_IO_Pos"]).unwrap_or_default();
        let auto = row.flag(&["Auto_Position"]);
        let using = row.text(&["Using_Gtid"]).is_some_and(|using| !using.eq_ignore_ascii_case("no"));
        let filters = ["Do_DB", "Ignore_DB", "Do_Table", "Ignore_Table", "Wild_Do_Table", "Wild_Ignore_Table"];
        let filtered = |name: &&str| row.text(&[&format!("Replicate_{name}")]).is_some_and(|text| !text.is_empty());
        Some(Channel {
            source: ServerAddr::new(&host, port).ok(),
            source_uuid: row.text(&["Source_UUID", "Master_UUID"]).filter(|uuid| !uuid.is_empty()),
            receiver: receiver(&row.text(&["Replica_IO_Running", "Slave_IO_Running"]).unwrap_or_default()),
            applier_running: row.flag(&["Replica_SQL_Running", "Slave_SQL_Running"]).unwrap_or(false),
            receiver_error: thread_error(row, "Last_IO_Errno", "Last_IO_Error"),
            applier_error: thread_error(row, "Last_SQL_Errno", "Last_SQL_Error"),
            auto_position: auto.unwrap_or(false) || using,
            received: kept.sets.parse(received)?,
            heartbeats: self.heartbeats(row, &name, kept),
            heartbeat_interval_ms: heartbeat_interval(row, &name, kept),
            read_position: position(
                row,
                &["Source_Log_File", "Master_Log_File"],
                &["Read_Source_Log_Pos", "Read_Master_Log_Pos"],
            ),
            applied_position: position(
                row,
                &["Relay_Source_Log_File", "Relay_Master_Log_File"],
                &["Exec_Source_Log_Pos", "Exec_Master_Log_Pos"],
            ),
            seconds_behind: row.number(&["Seconds_Behind_Source", "Seconds_Behind_Master"]),
            delay_s: row.number(&["SQL_Delay"]).unwrap_or_default(),
            connect_retry_s: row.number(&["Connect_Retry"]).unwrap_or_default(),
            retry_count: row.number(&["Source_Retry_Count", "Master_Retry_Count"]).unwrap_or(86_400),
            tls: row.flag(&["Source_SSL_Allowed", "Master_SSL_Allowed"]).unwrap_or(false),
            filtered: filters.iter().any(filtered),
            name,
        })
    }

    /// The transaction of which old versions received a part only, and which they name all the same: the
    /// one that is left when the receiver is stopped and the one applier says that it has read everything.
    /// What is executed was asked for after that.
    fn half_received(&self, row: &Named<'_>, channel: &Channel, kept: &mut Kept) -> Option<GtidSet> {
        let now = self.rows(Part::Executed).first().map(Named)?;
        let executed = kept.sets.parse(now.text(&["gtid_executed"])?)?;
        let alone = now.number::<u32>(&["workers"]) == Some(0);
        let read_all = row.text(&["Slave_SQL_Running_State"])?.starts_with("Slave has read all relay log");
        let idle = alone && read_all && channel.applier_running && channel.receiver == Receiver::Stopped;
        let left = channel.received.subtract(&executed);
        (idle && left.count() == 1).then_some(left)
    }

    fn heartbeats(&self, row: &Named<'_>, channel: &str, kept: &Kept) -> u64 {
        let of_channel = |row: &&Row| Named(row).text(&["CHANNEL_NAME"]).unwrap_or_default() == channel;
        let table = self.rows(Part::Heartbeats).iter().find(of_channel);
        let table = table.and_then(|row| Named(row).number(&["COUNT_RECEIVED_HEARTBEATS"]));
        let own = || row.number(&["Slave_received_heartbeats"]);
        let status = || kept.status.iter().find(|(name, _)| name == "slave_received_heartbeats")?.1.parse().ok();
        table.or_else(own).or_else(status).unwrap_or_default()
    }
}

fn heartbeat_interval(row: &Named<'_>, channel: &str, kept: &Kept) -> Option<u64> {
    let table = kept.intervals.iter().find(|(name, _)| name == channel).map(|(_, ms)| *ms);
    let own = || row.number::<f64>(&["Slave_heartbeat_period"]).map(seconds_to_ms);
    let status = || {
        let (_, text) = kept.status.iter().find(|(name, _)| name == "slave_heartbeat_period")?;
        text.parse().ok().map(seconds_to_ms)
    };
    table.or_else(own).or_else(status)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bounded before the cast")]
pub(super) fn seconds_to_ms(seconds: f64) -> u64 {
    (seconds.clamp(0.0, 4_294_967.0) * 1000.0).round() as u64
}

fn receiver(text: &str) -> Receiver {
    match text.to_ascii_lowercase().as_str() {
        "yes" => Receiver::Running,
        "connecting" | "preparing" => Receiver::Connecting,
        _ => Receiver::Stopped,
    }
}

fn thread_error(row: &Named<'_>, code: &str, message: &str) -> Option<ThreadError> {
    let code = row.number(&[code]).filter(|code| *code != 0)?;
    let message = row.text(&[message]).unwrap_or_default().chars().take(300).collect();
    Some(ThreadError { code, message })
}

fn position(row: &Named<'_>, file: &[&str], position: &[&str]) -> (String, u64) {
    (row.text(file).unwrap_or_default(), row.number(position).unwrap_or_default())
}
