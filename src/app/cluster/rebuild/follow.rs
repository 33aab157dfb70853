//! How a rebuild goes on that is written down as running, whoever began it, until it is known how it ended.

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
/// A server that ended must be closed again before that is told, for so long.
const CLOSING: Duration = Duration::from_secs(300);
/// How long a server that is copied may need to replicate, and pause between attempts.
const JOINING: Duration = Duration::from_secs(600);
const JOIN_AGAIN: Duration = Duration::from_secs(5);
/// How long another server must have the address of one that needs a person.
const STRANGE: Duration = Duration::from_secs(600);
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
    /// Why it was not overwritten, when it may still let administrators write.
    open: Option<String>,
    /// When it was to be made a replica, first and last.
    joining: Option<(Instant, Instant)>,
}

impl Keeper {
    /// Goes on with the rebuild of `addr`, or sees whether a person has mended one that failed.
    pub(super) async fn follow(&mut self, desired: &Desired, view: &ClusterView, addr: &ServerAddr, rebuild: &Rebuild) {
        let fresh =
            || Following { server: addr.clone(), idle: None, away: None, broken: None, open: None, joining: None };
        let mut following = self.following.take().filter(|known| known.server == *addr).unwrap_or_else(fresh);
        match self.ended(addr).await {
            Some(Err(CloneError::Refused(reason))) => {
                self.write(addr, Some(rebuild), Some(&Rebuild::refused(&Refusal::Waits(reason)))).await;
                return;
            }
            Some(Err(CloneError::Open(reason))) => following.open = Some(reason),
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
        let running = rebuild.state == State::Running;
        if !running && !desired.policy.failover.rebuild && !found.seen.executed.is_empty() {
            // A person has mended it, put another one into its place, or left it as it was.
            self.write(addr, Some(rebuild), None).await;
            return;
        }
        if rebuild.uuid.as_ref() != Some(uuid) || primary.identity.uuid == *uuid {
            return self.strange(addr, rebuild, primary.identity.uuid == *uuid).await;
        }
        self.strangers.remove(addr);
        if let Some(reason) = following.open.clone().filter(|_| running) {
            if self.closed(addr, uuid, cloner).await {
                self.write(addr, Some(rebuild), Some(&Rebuild::refused(&Refusal::Waits(reason)))).await;
                following.open = None;
            }
            return;
        }
        if found.seen.settings.writable() {
            let _told = self.act(desired, addr, Action::Fence).await;
        }
        let course = course(&found.seen, found.copying.as_ref(), (primary_addr, primary), rebuild.extra.as_ref());
        if !matches!(course, Course::Idle | Course::Broken(_)) {
            following.idle = None;
        }
        match course {
            Course::Copying(session) if running => {
                let took_ms = found.copying.as_ref().map_or(0, |copying| copying.took_ms);
                self.watch_over(desired, addr, cloner, (session, took_ms)).await;
            }
            // Also while this process' own session has not noticed that the server restarted.
            Course::Join => self.join(desired, view, (addr, rebuild), primary_addr, following).await,
            // Its configuration lets it acknowledge: nobody counted on that.
            Course::Joined if desired.policy.semi_sync.is_some() && found.seen.semi_sync.acknowledges() => {
                self.join(desired, view, (addr, rebuild), primary_addr, following).await;
            }
            Course::Joined => {
                self.copy = None;
                self.joined(desired, addr, rebuild, &found.seen).await;
            }
            // What the server says is about an earlier copy while this process' own has not begun.
            _ if self.copy.is_some() => {}
            Course::Idle | Course::Broken(_) if running => {
                let since = *following.idle.get_or_insert_with(Instant::now);
                if since.elapsed() >= IDLE {
                    self.given_up(addr, rebuild, cloner, (&course, since), following.broken.clone()).await;
                }
            }
            Course::Astray(set) if running => {
                let reason = format!("it is copied, and has transactions that the primary lacks: {set}");
                self.failed(addr, rebuild, cloner, (reason, Instant::now())).await;
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
        (course, since): (&Course, Instant),
        broken: Option<String>,
    ) {
        match (course, broken) {
            (Course::Broken(reason), broken) => {
                self.failed(addr, rebuild, cloner, (broken.unwrap_or_else(|| reason.clone()), since)).await;
            }
            (_, Some(broken)) => self.failed(addr, rebuild, cloner, (broken, since)).await,
            (_, None) => {
                let uuid = rebuild.uuid.as_deref().unwrap_or_default();
                if !self.closed(addr, uuid, cloner).await && since.elapsed() < CLOSING {
                    return;
                }
                let refusal = Refusal::Waits("it did not begin".to_owned());
                self.write(addr, Some(rebuild), Some(&Rebuild::refused(&refusal))).await;
            }
        }
    }

    /// Another server has its address, and nothing is done to that one.
    async fn strange(&mut self, addr: &ServerAddr, rebuild: &Rebuild, primary: bool) {
        let since = *self.strangers.entry(addr.clone()).or_insert_with(Instant::now);
        if rebuild.state == State::Failed && !primary && since.elapsed() >= STRANGE {
            self.write(addr, Some(rebuild), None).await;
            return;
        }
        let message = "another server has its address by now".to_owned();
        let failed = Rebuild { state: State::Failed, message, ..rebuild.clone() };
        self.write(addr, Some(rebuild), Some(&failed)).await;
    }

    /// A copy goes on: not longer than the owner wishes.
    async fn watch_over(
        &self,
        desired: &Desired,
        addr: &ServerAddr,
        cloner: &mut Cloner,
        (session, took_ms): (u64, u64),
    ) {
        if took_ms > desired.policy.failover.rebuild_timeout_ms && self.with.shared.leads() {
            tracing::warn!(cluster = %self.with.key, server = %addr, "{addr}: the copy takes longer than failover.rebuildTimeout");
            if let Err(error) = cloner.end(session).await {
                tracing::warn!(cluster = %self.with.key, server = %addr, "{addr}: not ended: {error}");
            }
        }
    }

    /// It has the data of another server and nothing of its own: it becomes a replica as any old primary does.
    async fn join(
        &self,
        desired: &Desired,
        view: &ClusterView,
        (addr, rebuild): (&ServerAddr, &Rebuild),
        primary: &ServerAddr,
        following: &mut Following,
    ) {
        let rests = following.joining.is_some_and(|(_, last)| last.elapsed() < JOIN_AGAIN);
        if view.writable.value != Some(true) || self.open(view).is_some() || rests {
            return;
        }
        let first = following.joining.map_or_else(Instant::now, |(first, _)| first);
        following.joining = Some((first, Instant::now()));
        // Nobody acknowledges before it is written down.
        let semi_sync = desired.policy.semi_sync.map(|_| false);
        let error = self.act(desired, addr, Action::Repoint { source: primary.clone(), semi_sync }).await.err();
        let failing = error.or_else(|| (first.elapsed() >= AWAY).then(|| "see its replication errors".to_owned()));
        let Some(error) = failing else { return };
        // Others wait for it no longer; it is tried on.
        let state = if first.elapsed() >= JOINING { State::Failed } else { rebuild.state };
        let told =
            Rebuild { state, message: format!("it is copied, and does not replicate: {error}"), ..rebuild.clone() };
        self.write(addr, Some(rebuild), Some(&told)).await;
    }

    async fn joined(&self, desired: &Desired, addr: &ServerAddr, rebuild: &Rebuild, seen: &Observation) {
        if seen.settings.offline_mode || !seen.settings.super_read_only {
            let _told = self.act(desired, addr, Action::SetReadOnly).await;
            return;
        }
        if self.write(addr, Some(rebuild), None).await {
            let donor = rebuild.donor.as_ref().map(ToString::to_string).unwrap_or_default();
            let key = &self.with.key;
            tracing::info!(cluster = %key, server = %addr, donor, "{key}: {addr} is rebuilt and replicates");
        }
    }

    async fn failed(
        &self,
        addr: &ServerAddr,
        rebuild: &Rebuild,
        cloner: &mut Cloner,
        (reason, since): (String, Instant),
    ) {
        let uuid = rebuild.uuid.as_deref().unwrap_or_default();
        if !self.closed(addr, uuid, cloner).await && since.elapsed() < CLOSING {
            return;
        }
        tracing::warn!(cluster = %self.with.key, server = %addr, "{addr} is not rebuilt: {reason}");
        let failed = Rebuild { state: State::Failed, message: reason, ..rebuild.clone() };
        self.write(addr, Some(rebuild), Some(&failed)).await;
    }

    /// Whoever overwrites it lets administrators write: closes it again. Whether that is done.
    async fn closed(&self, addr: &ServerAddr, uuid: &str, cloner: &mut Cloner) -> bool {
        if !self.with.shared.leads() {
            return false;
        }
        let closed = cloner.close(uuid).await;
        if let Err(error) = &closed {
            tracing::warn!(cluster = %self.with.key, server = %addr, "{addr} is not super_read_only: {error}");
        }
        closed.is_ok()
    }

    /// What was not done about it, in words; nothing, where nothing may be done.
    async fn act(&self, desired: &Desired, addr: &ServerAddr, action: Action) -> Result<(), String> {
        if !self.with.shared.leads() || desired.policy.paused {
            return Ok(());
        }
        let name = action.name();
        tracing::info!(cluster = %self.with.key, server = %addr, "{addr}: {name}: it is being rebuilt");
        let done = Box::pin(self.with.servers.act(addr, action, ACTION_MS)).await;
        done.map(|_| ()).map_err(|error| {
            tracing::warn!(cluster = %self.with.key, server = %addr, "{addr}: {name}: {error}");
            error.to_string()
        })
    }
}

/// What the server and the primary say.
struct Found {
    seen: Box<Observation>,
    copying: Option<Copying>,
    primary: Option<(ServerAddr, Box<Observation>)>,
}
