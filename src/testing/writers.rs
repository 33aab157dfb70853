//! Writers that behave like an application's clients: they insert rows, move on to the next address
//! when one fails, never repeat a row, and remember every outcome.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use super::history::{Attempt, History, Mark, Verdict};
use crate::core::id::ServerAddr;

mod client;
mod table;

pub use table::{WriterError, check, rows};

/// Most attempts of one run: 2 million take about 100 MB.
const ATTEMPTS_MAX: usize = 2_000_000;

/// What the writers do.
#[derive(Clone)]
pub struct Config {
    /// Servers to try, in order; one address of a Service will do.
    pub addresses: Vec<ServerAddr>,
    /// Account; it must not be exempt from `read_only`.
    pub user: String,
    /// Its password.
    pub password: String,
    /// Database; its table `writes` is made when missing.
    pub database: String,
    /// How many writers, each with a connection of its own.
    pub writers: u32,
    /// Inserts per second and writer; 0 for as many as possible.
    pub rate: u32,
    /// Bound of a connect with login.
    pub connect_timeout: Duration,
    /// Bound of an insert.
    pub read_timeout: Duration,
    /// Number of the run; must differ from earlier runs on the same table.
    pub run: u64,
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config").field("addresses", &self.addresses).field("writers", &self.writers).finish()
    }
}

impl Config {
    /// 8 writers, 50 rows a second each, timeouts of 0.5 s, as the fixtures' account `app`.
    #[must_use]
    pub fn new(addresses: Vec<ServerAddr>) -> Self {
        let run = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Self {
            addresses,
            user: "app".to_owned(),
            password: "app".to_owned(),
            database: "app".to_owned(),
            writers: 8,
            rate: 50,
            connect_timeout: Duration::from_millis(500),
            read_timeout: Duration::from_millis(500),
            run: u64::try_from(run.as_millis()).unwrap_or_default(),
        }
    }
}

/// Running writers. Dropping them stops them.
#[derive(Debug)]
pub struct Writers {
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
}

#[derive(Debug)]
struct Shared {
    config: Config,
    begin: Instant,
    stop: CancellationToken,
    history: Mutex<History>,
    /// The one address that is tried, as an index.
    stuck: Mutex<Option<usize>>,
}

impl Shared {
    fn now_us(&self) -> u64 {
        u64::try_from(self.begin.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn record(&self, attempt: Attempt) {
        let mut history = self.lock();
        history.attempts.push(attempt);
        if history.attempts.len() >= ATTEMPTS_MAX {
            history.truncated = true;
            self.stop.cancel();
        }
    }

    fn lock(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Writers {
    /// Makes the table, then starts the writers.
    ///
    /// # Errors
    /// When no address takes the statement within 30 s.
    pub async fn start(config: Config) -> Result<Self, WriterError> {
        table::prepare(&config).await?;
        let history = History { run: config.run, ..History::default() };
        let begin = Instant::now();
        let shared = Arc::new(Shared {
            config,
            begin,
            stop: CancellationToken::new(),
            history: Mutex::new(history),
            stuck: Mutex::default(),
        });
        let mut tasks = JoinSet::new();
        for writer in 0..shared.config.writers {
            tasks.spawn(client::write(Arc::clone(&shared), writer));
        }
        Ok(Self { shared, tasks })
    }

    /// Microseconds since the run began.
    #[must_use]
    pub fn now_us(&self) -> u64 {
        self.shared.now_us()
    }

    /// Remembers that `what` happens now, and when that is.
    pub fn mark(&self, what: &str) -> u64 {
        let at_us = self.shared.now_us();
        self.shared.lock().marks.push(Mark { at_us, what: what.to_owned() });
        at_us
    }

    /// Lets the writers try only the address with this index from their next failure on, as behind a proxy that was
    /// not told that there is another primary; `None`: all of them.
    pub fn stick(&self, address: Option<usize>) {
        *self.shared.stuck.lock().unwrap_or_else(PoisonError::into_inner) = address;
    }

    /// A copy of everything until now.
    #[must_use]
    pub fn history(&self) -> History {
        self.shared.lock().clone()
    }

    /// Waits until a server other than `server` has acknowledged a row after `since_us`; answers when.
    pub async fn written_elsewhere(&self, server: &str, since_us: u64, bound: Duration) -> Option<u64> {
        let deadline = Instant::now() + bound;
        while Instant::now() < deadline {
            let found = self.shared.lock().first_from_another(server, since_us);
            if found.is_some() {
                return found;
            }
            sleep(Duration::from_millis(20)).await;
        }
        None
    }

    /// Waits until `rows` more rows are acknowledged; `false` when that takes longer than `bound`.
    pub async fn acknowledged(&self, rows: u64, bound: Duration) -> bool {
        let wanted = self.shared.lock().counts().0 + rows;
        let deadline = Instant::now() + bound;
        while Instant::now() < deadline {
            if self.shared.lock().counts().0 >= wanted {
                return true;
            }
            sleep(Duration::from_millis(20)).await;
        }
        false
    }

    /// Compares what was told until now with the rows on `addr`, while the writers go on.
    ///
    /// # Errors
    /// When the rows cannot be read within 30 s.
    pub async fn check_now(&self, addr: &ServerAddr) -> Result<Verdict, WriterError> {
        let history = self.history();
        let mut present = table::rows(&self.shared.config, addr, history.run).await?;
        let sent = history.last_sent();
        // What was sent after the copy was taken is not judged.
        present.retain(|row| sent.get(&row.writer).is_none_or(|seq| row.seq <= *seq));
        Ok(history.check(&present))
    }

    /// Stops all writers after their present statement and gives what they saw.
    pub async fn stop(mut self) -> History {
        self.shared.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
        self.history()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_not_shown() {
        let config = Config { password: "secret".into(), ..Config::new(Vec::new()) };
        assert!(!format!("{config:?}").contains("secret"));
    }
}
