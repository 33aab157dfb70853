//! How a rebuild goes on that is written down as running, whoever began it, until it is known how it ended.

use jiff::Timestamp;
use tokio::time::{Duration, Instant};

use super::Keeper;
use crate::{
    core::{
        id::ServerAddr,
        observation::Observation,
        rebuild::{Copying, Course, Rebuild, Refusal, State, course},
        status::ClusterView,
        step::Action,
    },
    engine::ports::Servers,
    k8s::controller::validate::Desired,
    mysql::{
        clone::{CloneError, Cloner, words},
        error::SessionError,
        options::Options,
    },
};

/// How long a server must show that nothing is copied, before it is taken not to have begun, for whoever began it must
/// have done so within 5 s; or to have been broken off, for it shows the same while it shuts down after it.
const IDLE: Duration = Duration::from_secs(30);
/// How long a server may be away before that is told.
const AWAY: Duration = Duration::from_secs(30);
/// Budget of one action, in milliseconds.
const ACTION_MS: u64 = 5000;

const DOWN: &str = "its server does not answer. A copy ends with a restart: if the process is not under a supervisor that \
                    starts it again (error 3707), start mysqld there";

/// What this process has seen of it.
pub(super) struct Following {
    server: ServerAddr,
    idle: Option<Instant>,
    away: Option<Instant>,
    broken: Option<String>,
}

impl Keeper {
    /// Goes on with the rebuild of `addr`, or sees whether a person has mended one that failed.
    pub(super) async fn follow(&mut self, desired: &Desired, view: &ClusterView, addr: &ServerAddr, rebuild: &Rebuild) {
        let fresh = || Following { server: addr.clone(), idle: None, away: None, broken: None };
        let mut following = self.following.take().filter(|known| known.server == *addr).unwrap_or_else(fresh);
        match self.ended(addr).await {
            Some(Err(CloneError::Refused(reason))) => {
                self.write(addr, Some(rebuild), Some(&Rebuild::refused(&Refusal::Waits(reason)))).await;
                return;
            }
            Some(Err(CloneError::Broken(reason))) => following.broken = Some(reason),
            Some(Ok(()) | Err(CloneError::NotRestarted)) | None => {}
        }
        // Somebody wrote into the status: nothing is done to a primary.
        if view.primary.as_ref().is_none_or(|primary| primary == addr) || desired.policy.maintenance.contains(addr) {
            self.following = Some(following);
            return;
        }
        let options = self.with.options.borrow().clone();
        match self.ask(addr, view, &options).await {
            Ok((mut cloner, found)) => {
                following.away = None;
                self.go_on(desired, view, (addr, rebuild), &mut cloner, found, &mut following).await;
            }
            Err(error) => {
                tracing::debug!(cluster = %self.with.key, server = %addr, "{addr} is being rebuilt: {}", words(&error));
                let since = *following.away.get_or_insert_with(Instant::now);
                if since.elapsed() >= AWAY && rebuild.state == State::Running {
                    let told = Rebuild { message: DOWN.to_owned(), ..rebuild.clone() };
                    self.write(addr, Some(rebuild), Some(&told)).await;
                }
            }
        }
        self.following = Some(following);
    }

    /// How the copy ended that this process began; `None`: it goes on, or there is none.
    async fn ended(&mut self, addr: &ServerAddr) -> Option<Result<(), CloneError>> {
        let mut copy = self.copy.take_if(|copy| copy.task.is_finished())?;
        let result = (&mut copy.task).await.unwrap_or_else(|error| Err(CloneError::Broken(error.to_string())));
        if let Err(error) = &result {
            tracing::info!(cluster = %self.with.key, server = %addr, "{addr}: {error}");
        }
        (copy.server == *addr).then_some(result)
    }

    /// Looks at the server, and at the primary after it.
    async fn ask(
        &self,
        addr: &ServerAddr,
        view: &ClusterView,
        options: &Options,
    ) -> Result<(Cloner, Found), SessionError> {
        let mut cloner = Box::pin(Cloner::connect(addr, options, &self.now)).await?;
        let (seen, copying) = (Box::pin(cloner.look()).await?, cloner.copying().await?);
        let primary = match &view.primary {
            Some(primary) => {
                let look = async { Cloner::connect(primary, options, &self.now).await?.look().await };
                Box::pin(look).await.ok().map(|seen| (primary.clone(), seen))
            }
            None => None,
        };
        Ok((cloner, Found { seen, copying, primary }))
    }

    async fn go_on(
        &mut self,
        desired: &Desired,
        view: &ClusterView,
        (addr, rebuild): (&ServerAddr, &Rebuild),
        cloner: &mut Cloner,
        found: Found,
        following: &mut Following,
    ) {
        let uuid = &found.seen.identity.uuid;
        let Some((primary_addr, primary)) = &found.primary else { return };
        if rebuild.uuid.as_ref() != Some(uuid) || primary.identity.uuid == *uuid {
            return self.strange(addr, rebuild).await;
        }
        let running = rebuild.state == State::Running;
        if !running && !desired.policy.failover.rebuild && !found.seen.executed.is_empty() {
            // A person has mended it, or left it as it was.
            self.write(addr, Some(rebuild), None).await;
            return;
        }
        if found.seen.settings.writable() {
            self.act(desired, addr, Action::Fence).await;
        }
        let before = view.quarantined.iter().find(|one| one.server == *addr).and_then(|one| one.extra.as_ref());
        let course = course(&found.seen, found.copying.as_ref(), (primary_addr, primary), before);
        if !matches!(course, Course::Idle | Course::Broken(_)) {
            following.idle = None;
        }
        match course {
            Course::Copying(session) if running => self.watch_over(desired, addr, rebuild, cloner, session).await,
            // Also while this process' own session has not noticed that the server restarted.
            Course::Join => self.join(desired, view, addr, primary_addr).await,
            Course::Joined => {
                self.copy = None;
                self.joined(desired, addr, rebuild, &found.seen).await;
            }
            // What the server says is about an earlier copy while this process' own has not begun.
            _ if self.copy.is_some() => {}
            Course::Idle | Course::Broken(_) if running => {
                let since = *following.idle.get_or_insert_with(Instant::now);
                if since.elapsed() >= IDLE {
                    self.given_up(addr, rebuild, cloner, &course, following.broken.clone()).await;
                }
            }
            Course::Astray(set) if running => {
                let reason = format!("it is copied, and has transactions that the primary lacks: {set}");
                self.failed(addr, rebuild, cloner, reason).await;
            }
            _ => {}
        }
    }

    /// Nothing goes on any more.
    async fn given_up(
        &self,
        addr: &ServerAddr,
        rebuild: &Rebuild,
        cloner: &mut Cloner,
        course: &Course,
        broken: Option<String>,
    ) {
        match (course, broken) {
            (Course::Broken(reason), broken) => {
                self.failed(addr, rebuild, cloner, broken.unwrap_or_else(|| reason.clone())).await;
            }
            (_, Some(broken)) => self.failed(addr, rebuild, cloner, broken).await,
            (_, None) => {
                self.closed(addr, cloner).await;
                let refusal = Refusal::Waits("it did not begin".to_owned());
                self.write(addr, Some(rebuild), Some(&Rebuild::refused(&refusal))).await;
            }
        }
    }

    /// Another server has its address, and nothing is done to that one.
    async fn strange(&self, addr: &ServerAddr, rebuild: &Rebuild) {
        let message = "another server has its address by now".to_owned();
        let failed = Rebuild { state: State::Failed, message, ..rebuild.clone() };
        self.write(addr, Some(rebuild), Some(&failed)).await;
    }

    /// A copy goes on: not longer than the owner wishes.
    async fn watch_over(
        &self,
        desired: &Desired,
        addr: &ServerAddr,
        rebuild: &Rebuild,
        cloner: &mut Cloner,
        session: u64,
    ) {
        let began = rebuild.began.map_or(0, Timestamp::as_millisecond);
        let took = Timestamp::now().as_millisecond().saturating_sub(began);
        let limit = desired.policy.failover.rebuild_timeout_ms;
        if u64::try_from(took).is_ok_and(|took| took > limit) {
            tracing::warn!(cluster = %self.with.key, server = %addr, "{addr}: the copy takes longer than failover.rebuildTimeout");
            if let Err(error) = cloner.end(session).await {
                tracing::warn!(cluster = %self.with.key, server = %addr, "{addr}: not ended: {error}");
            }
        }
    }

    /// It has the data of another server and nothing of its own: it becomes a replica as any old primary does.
    async fn join(&self, desired: &Desired, view: &ClusterView, addr: &ServerAddr, primary: &ServerAddr) {
        if view.writable.value != Some(true) || self.open(view).is_some() {
            return;
        }
        // Nobody acknowledges before it is written down.
        let semi_sync = desired.policy.semi_sync.map(|_| false);
        self.act(desired, addr, Action::Repoint { source: primary.clone(), semi_sync }).await;
    }

    async fn joined(&self, desired: &Desired, addr: &ServerAddr, rebuild: &Rebuild, seen: &Observation) {
        if seen.settings.offline_mode || !seen.settings.super_read_only {
            return self.act(desired, addr, Action::SetReadOnly).await;
        }
        if self.write(addr, Some(rebuild), None).await {
            let donor = rebuild.donor.as_ref().map(ToString::to_string).unwrap_or_default();
            let key = &self.with.key;
            tracing::info!(cluster = %key, server = %addr, donor, "{key}: {addr} is rebuilt and replicates");
        }
    }

    async fn failed(&self, addr: &ServerAddr, rebuild: &Rebuild, cloner: &mut Cloner, reason: String) {
        self.closed(addr, cloner).await;
        tracing::warn!(cluster = %self.with.key, server = %addr, "{addr} is not rebuilt: {reason}");
        let failed = Rebuild { state: State::Failed, message: reason, ..rebuild.clone() };
        self.write(addr, Some(rebuild), Some(&failed)).await;
    }

    /// Whoever overwrites it lets administrators write.
    async fn closed(&self, addr: &ServerAddr, cloner: &mut Cloner) {
        if let Err(error) = cloner.close_to_all().await {
            tracing::warn!(cluster = %self.with.key, server = %addr, "{addr} is not super_read_only: {error}");
        }
    }

    async fn act(&self, desired: &Desired, addr: &ServerAddr, action: Action) {
        if !self.with.shared.leads() || desired.policy.paused {
            return;
        }
        let name = action.name();
        tracing::info!(cluster = %self.with.key, server = %addr, "{addr}: {name}: it is being rebuilt");
        if let Err(error) = Box::pin(self.with.servers.act(addr, action, ACTION_MS)).await {
            tracing::warn!(cluster = %self.with.key, server = %addr, "{addr}: {name}: {error}");
        }
    }
}

/// What the server and the primary say.
struct Found {
    seen: Box<Observation>,
    copying: Option<Copying>,
    primary: Option<(ServerAddr, Box<Observation>)>,
}
