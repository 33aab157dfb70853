//! The actions that change where a server replicates from, and how.
//!
//! None of them may cost a transaction that was received and not yet applied: each looks first and
//! refuses when relay logs would be discarded (safety.md, "Failing over", 4).

use std::time::Duration;

use mysql_async::Row;
use secrecy::ExposeSecret;
use tokio::time::sleep;

use super::{
    super::{
        dialect::{
            self,
            change::{self, ChannelTls, Repoint},
        },
        options::TlsMode,
        rows::Named,
    },
    left_ms,
    work::{Failed, Work},
};
use crate::core::{
    id::ServerAddr,
    observation::{Channel, Observation, Receiver},
};

/// How often, and how far apart, it is looked for an applier that holds a part of a transaction.
const HALF_LOOKS: u32 = 30;
const HALF_PAUSE: Duration = Duration::from_millis(20);
/// The same where nothing is left to be read: whoever was handed the last of it may not have begun.
const IDLE_LOOKS: u32 = 2;
const IDLE_PAUSE: Duration = Duration::from_millis(5);

/// What stopping a receiver, changing it and starting it again may take on a busy machine, in milliseconds.
const ENFORCE_MS: u64 = 1500;

/// Names of a channel's TLS options, as its status and its configuration know them.
const TLS_FILES: [(&str, &str); 7] = [
    ("CA", "CA_File"),
    ("CAPATH", "CA_Path"),
    ("CERT", "Cert"),
    ("CIPHER", "Cipher"),
    ("KEY", "Key"),
    ("CRL", "Crl"),
    ("CRLPATH", "Crlpath"),
];

impl Work<'_> {
    /// Forgets all channels. Fails while something received is not applied.
    pub(super) async fn forget_source(&mut self) -> Result<(), Failed> {
        let version = self.version();
        let seen = self.quick_look().await?;
        self.stop_drained(&seen).await?;
        for channel in &seen.channels {
            self.say("forget the source", &change::forget_source(version, &channel.name)).await?;
        }
        Ok(())
    }

    /// Stops replication when everything received is applied; else refuses and leaves the threads as they
    /// were `before`. The receiver goes first, so that the applier can finish.
    async fn stop_drained(&mut self, before: &Observation) -> Result<(), Failed> {
        let version = self.version();
        let (idle, working): (Vec<_>, Vec<_>) = before.channels.iter().partition(|channel| !channel.applier_running);
        idle.iter().try_for_each(|channel| drained(channel, before))?;
        let receives = before.channels.iter().any(|channel| channel.receiver != Receiver::Stopped);
        if receives || working.iter().any(|channel| drained(channel, before).is_err()) {
            self.threads("stop receiver", &change::stop_receiver(version)).await?;
            self.wait_drained().await?;
            let stopped = self.quick_look().await?;
            if let Err(refusal) = stopped.channels.iter().try_for_each(|channel| drained(channel, &stopped)) {
                if receives {
                    self.threads("start receiver", &change::start_receiver(version)).await?;
                }
                return Err(refusal);
            }
        }
        self.end_half_applied().await?;
        self.threads("stop replication", &change::stop_replication(version)).await
    }

    /// Ends appliers that hold a part of a transaction whose rest will not come, which rolls it back: asked
    /// to stop, MySQL 9.7.4 waits a minute for the rest. Only when the receivers are stopped and everything
    /// that was received as a whole is applied.
    pub(super) async fn end_half_applied(&mut self) -> Result<(), Failed> {
        if !self.version().tells_what_is_applied() {
            return Ok(());
        }
        let settled = |channel: &Channel, seen: &Observation| {
            channel.receiver == Receiver::Stopped && channel.drained(&seen.executed)
        };
        let rest = |channel: &Channel| channel.applier_running && channel.read_position != channel.applied_position;
        let ended = async {
            let mut idle_looks = 0;
            // Whoever is to apply it may not have begun, and one that is ended while it begins goes on. Positions alone
            // tell nothing: with several workers the one applied is as of the last checkpoint, 300 ms ago.
            for look in 0..HALF_LOOKS {
                let seen = self.quick_look().await?;
                let half =
                    seen.channels.iter().all(|channel| settled(channel, &seen)) && seen.channels.iter().any(rest);
                if !half {
                    break;
                }
                let read_all = self.ids("find appliers that have read all", change::READ_ALL).await?;
                let appliers = self.ids("find half applied transactions", change::APPLYING).await?;
                let running = seen.channels.iter().filter(|channel| channel.applier_running).count();
                let idle = appliers.is_empty() && read_all.len() >= running;
                idle_looks = if idle { idle_looks + 1 } else { 0 };
                if idle_looks >= IDLE_LOOKS || appliers.is_empty() && look >= HALF_LOOKS / 3 {
                    break;
                }
                self.kill(&appliers).await?;
                sleep(if idle { IDLE_PAUSE } else { HALF_PAUSE }).await;
            }
            Ok(())
        };
        match ended.await {
            // Then the server waits.
            Err(Failed::Refused(_, error)) if error.lacks_privilege() => Ok(()),
            other => other,
        }
    }

    /// Gives the applier up to half of what is left of the budget.
    pub(super) async fn wait_drained(&mut self) -> Result<(), Failed> {
        let version = self.version();
        let seen = self.quick_look().await?;
        for channel in seen.channels.iter().filter(|channel| channel.auto_position && channel.applier_running) {
            if !seen.executed.contains(&channel.received) {
                let text = change::wait_applied(version, &channel.received, left_ms(self.until) / 2);
                self.ask("wait for the applier", &text).await?;
            }
        }
        Ok(())
    }

    /// Replicates from `source`: what the channel had is restated, TLS always.
    pub(super) async fn repoint(&mut self, source: &ServerAddr, semi_sync: Option<bool>) -> Result<(), Failed> {
        let version = self.version();
        let seen = self.quick_look().await?;
        if let [first, second, ..] = seen.channels.as_slice() {
            let reason = format!("it has channels {:?} and {:?}: which to repoint is unknown", first.name, second.name);
            return Err(Failed::Precondition(reason));
        }
        let account = self.options.replication.clone();
        if account.is_none() && seen.channels.is_empty() {
            let reason = "it has no replication account and the Secret has no replication-username";
            return Err(Failed::Precondition(reason.to_owned()));
        }
        let had = seen.channels.first();
        let live = version.can_repoint_receiver_alone()
            && had.is_some_and(|channel| channel.applier_running && channel.auto_position);
        if live {
            self.stop_receiver_alone(&seen).await?;
        } else {
            self.stop_drained(&seen).await?;
        }
        if had.is_none() && self.is_mariadb() {
            self.say("start at the own end", change::MARIADB_START_AT_OWN_END).await?;
        }
        let how = Repoint {
            channel: had.map(|channel| channel.name.clone()).unwrap_or_default(),
            live,
            source: source.clone(),
            tls: self.channel_tls(had.is_some()).await?,
            heartbeat_ms: had.and_then(|channel| channel.heartbeat_interval_ms).filter(|ms| *ms > 0),
            connect_retry_s: had.map_or(1, |channel| channel.connect_retry_s.max(1)),
            retry_count: had.map_or(86_400, |channel| channel.retry_count),
        };
        let account = account.as_ref().map(|account| (account.user.as_str(), account.password.expose_secret()));
        match self.say("change the source", &change::repoint(version, &how, account)).await {
            // A syntax error is quoted from the place where it is.
            Err(Failed::Refused(what, error)) if error.code == Some(1064) => {
                return Err(Failed::Refused(what, error.without_words()));
            }
            other => other?,
        }
        if let Some(on) = semi_sync {
            self.semi_sync_replica(on).await?;
        }
        let start = if live { change::start_receiver(version) } else { change::start_replication(version) };
        self.say("start replication", &start).await
    }

    /// TLS as the channel has it; for a new channel, as the cluster's owner wants it.
    async fn channel_tls(&mut self, had: bool) -> Result<ChannelTls, Failed> {
        let rows = self.ask("read the channel", &dialect::look::channels(self.version())).await?;
        if let Some(row) = rows.first().filter(|_| had) {
            return Ok(found_tls(row));
        }
        let on = matches!(self.options.tls.mode, TlsMode::Required | TlsMode::VerifyCa | TlsMode::VerifyIdentity);
        let verify = matches!(self.options.tls.mode, TlsMode::VerifyCa | TlsMode::VerifyIdentity);
        // The owner's authority is a file of ours; the server can only check with one of its own.
        let ca = if verify { self.ask("read ssl_ca", dialect::SSL_CA).await? } else { Vec::new() };
        let ca = ca.first().and_then(|row| Named(row).text(&["ssl_ca"])).filter(|ca| !ca.is_empty());
        if verify && ca.is_none() {
            return Err(Failed::Precondition("it has no ssl_ca to verify its source with".to_owned()));
        }
        let files = ca.map(|ca| ("CA", ca)).into_iter().collect();
        Ok(ChannelTls { on, verify: self.options.tls.mode == TlsMode::VerifyIdentity, files, versions: None })
    }

    /// Settings that make silence noticeable; they take effect with a new connection to the source.
    /// Threads that did not run stay as they are.
    pub(super) async fn enforce(&mut self, heartbeat_ms: u64, net_timeout_s: u64) -> Result<(), Failed> {
        let version = self.version();
        self.say("set the net timeout", &change::net_timeout(version, net_timeout_s)).await?;
        let alone = version.can_change_receiver_alone();
        let before = self.quick_look().await?;
        // Nobody would start again what is left stopped.
        if left_ms(self.until) < ENFORCE_MS {
            return Err(Failed::Precondition(
                "too little time is left to stop its receiver and start it again".to_owned(),
            ));
        }
        if alone {
            self.stop_receiver_alone(&before).await?;
        } else {
            self.stop_drained(&before).await?;
        }
        let mut changed = Ok(());
        for channel in &before.channels {
            let text = change::replication_settings(version, &channel.name, heartbeat_ms);
            changed = changed.and(self.say("set the heartbeat", &text).await);
        }
        if before.channels.iter().any(|channel| channel.receiver != Receiver::Stopped) {
            self.threads("start receiver", &change::start_receiver(version)).await?;
        }
        if !alone && before.channels.iter().any(|channel| channel.applier_running) {
            self.threads("start applier", &change::start_applier(version)).await?;
        }
        changed
    }

    /// Stops the receivers of channels whose appliers run: then a change keeps the relay logs. With an
    /// applier stopped too they must have been applied.
    async fn stop_receiver_alone(&mut self, before: &Observation) -> Result<(), Failed> {
        let mut idle = before.channels.iter().filter(|channel| !channel.applier_running);
        idle.try_for_each(|channel| drained(channel, before))?;
        self.threads("stop receiver", &change::stop_receiver(self.version())).await
    }
}

fn found_tls(row: &Row) -> ChannelTls {
    let row = Named(row);
    let text = |name: &str| row.text(&[&format!("Source_SSL_{name}"), &format!("Master_SSL_{name}")]);
    ChannelTls {
        on: text("Allowed").is_some_and(|text| text.eq_ignore_ascii_case("yes")),
        verify: text("Verify_Server_Cert").is_some_and(|text| text.eq_ignore_ascii_case("yes")),
        files: TLS_FILES.iter().filter_map(|(option, column)| Some((*option, text(column)?))).collect(),
        versions: row.text(&["Source_TLS_Version", "Master_TLS_Version"]).filter(|text| !text.is_empty()),
    }
}

/// Refuses when a channel has received something that is not applied.
fn drained(channel: &Channel, seen: &Observation) -> Result<(), Failed> {
    if channel.drained(&seen.executed) {
        return Ok(());
    }
    let waiting = channel.received.subtract(&seen.executed).count();
    Err(Failed::Precondition(format!("{waiting} transactions are received and not applied: they would be discarded")))
}
