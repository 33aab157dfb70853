//! The actions that move a primary: fence, claim, epoch, unfence, repoint.
//!
//! The order inside each is normative (safety.md, "Failing over" 6 to 8; measurements M1 to M9).

use mysql_async::Row;
use secrecy::ExposeSecret;

use super::{
    dialect::change::{self, Repoint},
    execute::{Failed, Work},
    options::TlsMode,
    rows::Named,
};
use crate::core::{
    id::{Epoch, ServerAddr},
    observation::Observation,
};

/// Client connections ended by one fence.
const KILLS_MAX: usize = 1000;

impl Work<'_> {
    /// `offline_mode` first, because it ends waiting commits without acknowledging them; then semi-sync
    /// off, which now releases nobody; then read only; then whoever is left.
    pub(super) async fn fence(&mut self) -> Result<(), Failed> {
        let version = self.session.version;
        if let Some(text) = change::offline(version, true) {
            self.say_if_known("offline mode", &text).await?;
        }
        if let Some(words) = self.words() {
            for text in change::semi_sync_source(words, false, None) {
                self.say_if_known("switch semi-sync source", &text).await?;
            }
        }
        self.say("set read only", &change::read_only(version)).await?;
        let clients = self.ids("list clients", &change::clients(version)).await?;
        for id in clients.into_iter().take(KILLS_MAX) {
            self.kill(id).await?;
        }
        Ok(())
    }

    /// Ends a connection; one that is gone already is as good.
    async fn kill(&mut self, id: u64) -> Result<(), Failed> {
        match self.say("end a connection", &change::kill(id)).await {
            Err(Failed::Refused(_, error)) if error.code == Some(1094) => Ok(()),
            other => other,
        }
    }

    /// Makes this session the only one that may unfence, until a deadline on the server's clock.
    pub(super) async fn claim(&mut self, epoch: Epoch, valid_ms: u64) -> Result<(), Failed> {
        if let Some(newest) = self.newest_epoch().await?.filter(|newest| *newest > epoch.0) {
            return Err(Failed::Precondition(format!("epoch {newest} is written on the server, above {epoch}")));
        }
        self.end_older_claims(epoch).await?;
        let holder = self.ask("find the claim", change::LOCK_HOLDER).await?;
        let holder = holder.first().map(Named);
        let id: Option<u64> = holder.as_ref().and_then(|row| row.number(&["id"]));
        let me: Option<u64> = holder.as_ref().and_then(|row| row.number(&["me"]));
        if let Some(id) = id.filter(|id| Some(*id) != me) {
            self.kill(id).await?;
        }
        let locked = self.ask("take the claim", change::LOCK).await?;
        if locked.first().and_then(|row| Named(row).number::<u8>(&["locked"])) != Some(1) {
            return Err(Failed::Precondition("another session holds the claim on this server".to_owned()));
        }
        self.say("note the deadline", &change::note_deadline(valid_ms)).await
    }

    /// Sessions of lower reigns are ended; one of a higher reign ends us.
    async fn end_older_claims(&mut self, epoch: Epoch) -> Result<(), Failed> {
        let rows = match self.ask("list claims", change::CLAIMANTS).await {
            // Without performance_schema the lock alone has to do.
            Err(Failed::Refused(..)) => return Ok(()),
            other => other?,
        };
        let claim = |row: &Row| {
            let row = Named(row);
            let epoch = row.text(&["program"])?.strip_prefix("baton/epoch=")?.parse::<u64>().ok()?;
            Some((row.number::<u64>(&["id"])?, epoch))
        };
        let claims: Vec<_> = rows.iter().filter_map(claim).collect();
        if let Some((_, higher)) = claims.iter().find(|(_, claimed)| *claimed > epoch.0) {
            return Err(Failed::Precondition(format!("epoch {higher} claims the server, above {epoch}")));
        }
        for (id, _) in claims {
            self.kill(id).await?;
        }
        Ok(())
    }

    async fn newest_epoch(&mut self) -> Result<Option<u64>, Failed> {
        let tables = self.ask("find the epoch table", change::EPOCH_TABLE).await?;
        if tables.first().and_then(|row| Named(row).number::<u64>(&["tables"])) != Some(1) {
            return Ok(None);
        }
        let newest = self.ask("read the epoch", change::EPOCH_NEWEST).await?;
        Ok(newest.first().and_then(|row| Named(row).number(&["epoch"])).or(Some(0)))
    }

    /// Ends replication, lets administrators write, writes the epoch. Under semi-sync the commit waits
    /// for an acker: done means that there is one.
    pub(super) async fn write_epoch(&mut self, epoch: Epoch, old_primary: Option<&ServerAddr>) -> Result<(), Failed> {
        let version = self.session.version;
        self.channel_statement("stop replication", &change::stop_replication(version)).await?;
        for text in change::administrators_only(version) {
            self.say("let administrators write", &text).await?;
        }
        let newest = self.newest_epoch().await?;
        if newest.is_none() {
            for text in change::epoch_table_make() {
                self.say("make the epoch table", text).await?;
            }
        }
        match newest {
            Some(newest) if newest > epoch.0 => {
                Err(Failed::Precondition(format!("epoch {newest} is written on the server, above {epoch}")))
            }
            Some(newest) if newest == epoch.0 && newest > 0 => Ok(()),
            _ => {
                let text = change::epoch_write(epoch, &self.addr.to_string(), old_primary);
                self.say("write the epoch", &text).await
            }
        }
    }

    /// Lets clients write unless the claim's deadline has passed on the server's clock.
    pub(super) async fn unfence(&mut self) -> Result<Box<Observation>, Failed> {
        self.say("unfence", change::UNFENCE).await?;
        let seen = self.look().await?;
        if seen.settings.writable() {
            Ok(seen)
        } else {
            Err(Failed::Precondition("the claim has ended: the server stays read only".to_owned()))
        }
    }

    /// Replicates from `source`: what the channel had is restated, TLS always.
    pub(super) async fn repoint(&mut self, source: &ServerAddr, semi_sync: Option<bool>) -> Result<(), Failed> {
        let version = self.session.version;
        let seen = self.look().await?;
        let channel = seen.channels.first();
        let account = self.options.replication.as_ref();
        if account.is_none() && channel.is_none() {
            return Err(Failed::Precondition(
                "it has no replication account and the Secret has no replication-username".to_owned(),
            ));
        }
        let verify = matches!(self.options.tls.mode, TlsMode::VerifyCa | TlsMode::VerifyIdentity);
        let had = self.ask("read the channel", &super::dialect::look::channels(version)).await?;
        let had = had.first().map(Named);
        let had_text = |names: &[&str]| had.as_ref().and_then(|row| row.text(names)).filter(|text| !text.is_empty());
        let how = Repoint {
            account: account.map(|account| (account.user.clone(), account.password.expose_secret().to_owned())),
            tls: channel.map_or(self.session.tls, |channel| channel.tls),
            tls_verify: had
                .as_ref()
                .and_then(|row| row.flag(&["Source_SSL_Verify_Server_Cert", "Master_SSL_Verify_Server_Cert"]))
                .unwrap_or(verify && channel.is_none()),
            tls_ca: had_text(&["Source_SSL_CA_File", "Master_SSL_CA_File"]),
            heartbeat_ms: channel.and_then(|channel| channel.heartbeat_interval_ms),
            retry: channel.is_none().then_some((1, 86_400)),
        };
        self.channel_statement("stop replication", &change::stop_replication(version)).await?;
        self.say("change the source", &change::repoint(version, source, &how)).await?;
        if let Some(on) = semi_sync {
            self.semi_sync_replica(on).await?;
        }
        self.say("start replication", &change::start_replication(version)).await
    }

    /// Settings that make silence noticeable; takes effect with a new connection to the source.
    pub(super) async fn enforce(&mut self, heartbeat_ms: u64, net_timeout_s: u64) -> Result<(), Failed> {
        let version = self.session.version;
        self.say("set the net timeout", &change::net_timeout(version, net_timeout_s)).await?;
        let (stop, start) = if version.can_change_receiver_alone() {
            (change::stop_receiver(version), change::start_receiver(version))
        } else {
            (change::stop_replication(version), change::start_replication(version))
        };
        self.channel_statement("stop receiver", &stop).await?;
        let changed = self.say("set the heartbeat", &change::replication_settings(version, heartbeat_ms)).await;
        self.channel_statement("start receiver", &start).await?;
        changed
    }
}
