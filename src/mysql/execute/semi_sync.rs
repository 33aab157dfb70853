//! The actions on semi-sync: who waits, who acknowledges, and the plugins for it.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{
    super::dialect::{SemiSyncWords, change, reign, semi_sync},
    work::{Failed, Work},
};
use crate::core::observation::{Observation, Receiver};

/// How long, and how often, it is looked for a receiver that connects.
const CONNECTS: Duration = Duration::from_millis(1000);
const CONNECTS_PAUSE: Duration = Duration::from_millis(10);

impl Work<'_> {
    pub(super) async fn semi_sync_source(&mut self, on: bool, wait_count: u32) -> Result<(), Failed> {
        let has_count = self.version().has_semi_sync_count();
        if on && wait_count > 1 && !has_count {
            return Err(Failed::Precondition(format!(
                "it cannot wait for {wait_count} acknowledgements, only for one"
            )));
        }
        let Some(words) = self.words() else {
            let missing = || Failed::Precondition("the semi-sync source plugin is not loaded".to_owned());
            return if on { Err(missing()) } else { Ok(()) };
        };
        for text in semi_sync::source(words, on, has_count.then_some(wait_count)) {
            self.say("switch semi-sync source", &text).await?;
        }
        Ok(())
    }

    pub(super) async fn semi_sync_replica(&mut self, on: bool) -> Result<(), Failed> {
        match self.words() {
            Some(words) => self.say("switch semi-sync replica", &semi_sync::replica(words, on)).await,
            None if on => Err(Failed::Precondition("the semi-sync replica plugin is not loaded".to_owned())),
            None => Ok(()),
        }
    }

    /// What keeps commits from passing unacknowledged comes first; `on`: enough ackers are attached for the
    /// rest, which may make commits wait.
    pub(super) async fn lossless_semi_sync(&mut self, acks: u32, on: bool) -> Result<(), Failed> {
        let Some(words) = self.words() else { return self.semi_sync_source(true, acks).await };
        for text in semi_sync::lasting(words) {
            // MySQL 5.6 has one wait point, and it is the other one.
            self.say_if_known("set how semi-sync waits", &text).await?;
        }
        if on {
            self.semi_sync_source(true, acks).await?;
            self.say("wait without replicas", &semi_sync::wait_without_replicas(words)).await?;
        }
        Ok(())
    }

    /// Switches acknowledging and has the receiver connect anew, then waits a moment for it to be there
    /// again. One that is stopped is started only in order to acknowledge.
    pub(super) async fn acknowledge(&mut self, on: bool) -> Result<(), Failed> {
        let version = self.version();
        self.semi_sync_replica(on).await?;
        let before = self.quick_look().await?;
        let stopped = before.channels.iter().all(|channel| channel.receiver == Receiver::Stopped);
        if stopped && !on {
            return Ok(());
        }
        self.stop_receiver().await?;
        if self.is_mariadb() {
            // It may ask its source again for what is not applied, and its source may be gone by then.
            self.wait_drained().await?;
        }
        self.threads("start receiver", &change::start_receiver(version)).await?;
        self.wait_receiving().await
    }

    /// Waits until the receivers are connected, for a moment at most.
    pub(super) async fn wait_receiving(&mut self) -> Result<(), Failed> {
        let until = self.until.min(Instant::now() + CONNECTS);
        let runs = |seen: &Observation| seen.channels.iter().all(|channel| channel.receiver == Receiver::Running);
        while !runs(&*self.quick_look().await?) && Instant::now() < until {
            sleep(CONNECTS_PAUSE).await;
        }
        Ok(())
    }

    /// Loads the plugins that are missing. A server that refuses everybody's writes refuses that too: it
    /// takes administrators' for the moment.
    pub(super) async fn load_semi_sync(&mut self) -> Result<(), Failed> {
        let seen = self.look().await?;
        let newest = self.version().has_semi_sync_source_words();
        let default = if newest { SemiSyncWords::SourceReplica } else { SemiSyncWords::MasterSlave };
        let words = self.words().unwrap_or(default);
        let source = seen.semi_sync.source.is_none().then(|| semi_sync::load_source(words));
        let replica = seen.semi_sync.replica_enabled.is_none().then(|| semi_sync::load_replica(words));
        let texts: Vec<_> = source.into_iter().chain(replica).collect();
        let closed = seen.settings.super_read_only && !texts.is_empty();
        if closed {
            for text in reign::administrators_only(self.version()) {
                self.say("let administrators write", &text).await?;
            }
        }
        let mut loaded = Ok(());
        for text in texts {
            loaded = loaded.and(self.say("load a semi-sync plugin", &text).await);
        }
        if closed {
            self.say("set read only", &reign::read_only(self.version())).await?;
        }
        loaded
    }
}
