//! A script, how it is played, and what is compared.

use std::time::Duration;

use baton::core::{
    id::ServerAddr,
    observation::{Observation, Receiver},
    step::{Action, ActionError},
};
use tokio::time::{Instant, sleep};

/// Longest wait for a real server to show what the simulated one does.
const PATIENCE: Duration = Duration::from_secs(10);
/// What is shown has to stay like this for so long.
const STAYS: Duration = Duration::from_millis(300);

/// How servers are set up: the first is the primary, the others are its replicas and acknowledge.
#[derive(Debug, Clone, Copy)]
pub struct Setup {
    pub replicas: usize,
    /// Acknowledgements that a commit needs; 0: asynchronous.
    pub acks: u32,
    pub relay_log_recovery: bool,
}

/// What happens to a process.
#[derive(Debug, Clone, Copy)]
pub enum Fate {
    /// SIGKILL.
    Crash,
    /// It starts again, fenced, without replicating.
    Boot,
    Freeze,
    Thaw,
}

pub type Ask = fn(&[ServerAddr]) -> Action;

/// One line.
#[derive(Debug, Clone, Copy)]
pub enum Line {
    /// An action on a server, and how it ends.
    Act(usize, Ask),
    /// The same by another executor.
    Other(usize, Ask),
    /// A client begins to write on a server.
    Write(usize),
    /// What that client was told.
    Told,
    /// What a server shows.
    Look(usize),
    /// Whom a server lets write.
    Access(usize),
    /// Whether a server has a source, and how much of it is to be applied.
    Follows(usize),
    StopApplier(usize),
    Process(usize, Fate),
    Pause(u64),
}

pub trait Bench {
    fn addresses(&self) -> Vec<ServerAddr>;
    async fn act(&mut self, executor: usize, server: usize, action: Action) -> Result<(), ActionError>;
    async fn write(&mut self, server: usize);
    /// `waits`, `told`, `refused` or `cut off`.
    async fn told(&mut self) -> String;
    /// A look, and how many transactions were executed before the script began.
    async fn look(&mut self, server: usize) -> Option<(Box<Observation>, u64)>;
    async fn stop_applier(&mut self, server: usize);
    async fn process(&mut self, server: usize, fate: Fate);
}

/// Plays a script; where it is known what is to be seen, that is waited for.
pub async fn play(bench: &mut impl Bench, script: &[Line], wanted: Option<&[String]>) -> Vec<String> {
    let addresses = bench.addresses();
    let mut seen = Vec::new();
    for (number, line) in script.iter().enumerate() {
        let answer = match line {
            Line::Act(server, ask) => ended(&bench.act(0, *server, ask(&addresses)).await),
            Line::Other(server, ask) => ended(&bench.act(1, *server, ask(&addresses)).await),
            Line::Told | Line::Look(_) | Line::Access(_) | Line::Follows(_) => {
                read(bench, *line, wanted.map(|wanted| wanted[number].as_str())).await
            }
            Line::Write(server) => {
                bench.write(*server).await;
                String::new()
            }
            Line::StopApplier(server) => {
                bench.stop_applier(*server).await;
                String::new()
            }
            Line::Process(server, fate) => {
                bench.process(*server, *fate).await;
                String::new()
            }
            Line::Pause(ms) => {
                sleep(Duration::from_millis(*ms)).await;
                String::new()
            }
        };
        let what = match line {
            Line::Act(server, ask) | Line::Other(server, ask) => format!("{} on {server}", ask(&addresses).name()),
            other => format!("{other:?}"),
        };
        seen.push(if answer.is_empty() { what } else { format!("{what}: {answer}") });
    }
    seen
}

async fn read(bench: &mut impl Bench, line: Line, wanted: Option<&str>) -> String {
    if wanted.is_none() {
        // The clock is simulated, too: whatever is under way has ended by then.
        sleep(PATIENCE).await;
    }
    let began = Instant::now();
    let mut right_since: Option<Instant> = None;
    loop {
        let found = match line {
            Line::Look(server) => {
                bench.look(server).await.map_or("away".to_owned(), |(seen, before)| shown(&seen, before))
            }
            Line::Access(server) => {
                bench.look(server).await.map_or("away".to_owned(), |(seen, _)| access(&seen).to_owned())
            }
            Line::Follows(server) => bench.look(server).await.map_or("away".to_owned(), |(seen, _)| follows(&seen)),
            _ => bench.told().await,
        };
        let right = wanted.is_none_or(|wanted| wanted.ends_with(&format!(": {found}")));
        right_since = right_since.or_else(|| right.then(Instant::now)).filter(|_| right);
        let stays = right_since.is_some_and(|since| since.elapsed() >= STAYS);
        if stays || began.elapsed() > PATIENCE {
            return found;
        }
        sleep(Duration::from_millis(20)).await;
    }
}

fn ended(result: &Result<(), ActionError>) -> String {
    match result {
        Ok(()) => "done".to_owned(),
        Err(ActionError::Contact { .. }) => "no answer".to_owned(),
        Err(ActionError::Refused { code, .. }) => format!("refused with {code}"),
        Err(ActionError::Precondition { .. }) => "nothing was done".to_owned(),
    }
}

/// What is compared of a look.
fn shown(seen: &Observation, before: u64) -> String {
    let mut words = vec![access(seen).to_owned(), format!("executed {}", seen.executed.count().saturating_sub(before))];
    for channel in &seen.channels {
        let unapplied = channel.received.subtract(&seen.executed).count();
        let receiver = match channel.receiver {
            Receiver::Running => "receives",
            Receiver::Connecting => "connects",
            Receiver::Stopped => "receiver stopped",
        };
        let applier = if channel.applier_running { "applies" } else { "applier stopped" };
        words.push(format!("{receiver}, {applier}, {unapplied} to apply"));
    }
    if let Some(source) = seen.semi_sync.source.as_ref().filter(|source| source.enabled) {
        words.push(format!(
            "waits for {}, {} can acknowledge, {} wait",
            source.wait_count, source.clients, source.waiting
        ));
    }
    words.join("; ")
}

fn follows(seen: &Observation) -> String {
    let unapplied = seen.channels.iter().map(|channel| channel.received.subtract(&seen.executed).count());
    seen.channels.first().map_or("nobody".to_owned(), |_| format!("{} to apply", unapplied.sum::<u64>()))
}

fn access(seen: &Observation) -> &'static str {
    match () {
        () if seen.settings.offline_mode => "offline",
        () if seen.settings.super_read_only => "super_read_only",
        () if seen.settings.read_only => "read_only",
        () => "open",
    }
}
