//! Real MySQL servers as child processes: started in about a second on a copy of a ready data
//! directory, killed, frozen and started again by tests.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use mysql_async::{Conn, OptsBuilder, Row, prelude::Queryable};
use tokio::time::{Instant, sleep, timeout};

use super::{
    clock::Clock,
    network::Host,
    process::{Process, Signal, run},
    series::Series,
};
use crate::core::id::ServerAddr;

/// How long a server may take from its start to its first answer.
const START_DEADLINE: Duration = Duration::from_secs(60);
/// How long one statement of the fixtures may take.
const STATEMENT_DEADLINE: Duration = Duration::from_secs(30);
/// How long a connect of the fixtures may take.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);

/// What went wrong in a fixture.
#[derive(Debug, thiserror::Error)]
pub enum FixtureError {
    /// A process, a file or a network.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// A server's answer.
    #[error("{server}: {statement}")]
    Mysql {
        /// Which server.
        server: ServerAddr,
        /// What was asked.
        statement: String,
        /// Its words.
        #[source]
        source: mysql_async::Error,
    },
    /// Something did not happen in time.
    #[error("{what} did not happen within {seconds} s{hint}")]
    Late {
        /// What was awaited.
        what: String,
        /// The bound.
        seconds: u64,
        /// What was seen instead, with a leading colon, or nothing.
        hint: String,
    },
    /// The fixture was asked for something that it cannot do.
    #[error("{0}")]
    Unfit(String),
}

/// The accounts of `dev/mysql/accounts.sql`; the password is the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Account {
    /// The operator's, with all privileges.
    Baton,
    /// The writers', without any global privilege.
    App,
}

impl Account {
    /// Name and password.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Baton => "baton",
            Self::App => "app",
        }
    }
}

/// One server: a process, running or not, with its data directory and address.
#[derive(Debug)]
pub struct Server {
    series: Series,
    id: u32,
    addr: ServerAddr,
    folder: PathBuf,
    options: Vec<String>,
    host: Option<Host>,
    clock: Option<Clock>,
    volume: bool,
    process: Option<Process>,
}

impl Server {
    /// Prepares a server below `parent`; [`Server::start`] starts it. With a `host` it lives in that
    /// host's namespace, else on the loopback address of this process.
    ///
    /// # Errors
    /// When the data directory cannot be made.
    pub fn prepare(series: Series, id: u32, addr: ServerAddr, parent: &Path, host: Option<Host>) -> io::Result<Self> {
        let folder = parent.join(format!("s{id}"));
        fs::create_dir(&folder)?;
        let (template, data) = (series.folder()?.join("template"), folder.join("data"));
        let copy = ["-a", "--reflink=auto", "--sparse=always"];
        run("cp", &[copy.as_slice(), &[&template.to_string_lossy(), &data.to_string_lossy()]].concat())?;
        Ok(Self { series, id, addr, folder, options: Vec::new(), host, clock: None, volume: false, process: None })
    }

    /// Like [`Server::prepare`], with the data directory on a file system of `size` MiB that can run full and
    /// be frozen. It is mounted for the server's process alone and goes with it.
    ///
    /// # Errors
    /// When the file system cannot be made.
    pub fn prepare_on_volume(
        series: Series,
        id: u32,
        addr: ServerAddr,
        parent: &Path,
        host: Option<Host>,
        size: u32,
    ) -> io::Result<Self> {
        let folder = parent.join(format!("s{id}"));
        fs::create_dir_all(folder.join("data"))?;
        let (template, image) = (series.folder()?.join("template"), folder.join("volume"));
        let words = ["-q", "-d", &template.to_string_lossy(), &image.to_string_lossy(), &format!("{size}M")];
        run("mkfs.ext4", &words)?;
        Ok(Self { series, id, addr, folder, options: Vec::new(), host, clock: None, volume: true, process: None })
    }

    /// Runs a program where the server's files are seen as the server sees them, also when it has ended;
    /// `{data}` in a word stands for the data directory.
    ///
    /// # Errors
    /// When the program fails.
    pub fn run_beside(&self, words: &[&str]) -> io::Result<String> {
        let data = self.folder.join("data").to_string_lossy().into_owned();
        let words = words.iter().map(|word| word.replace("{data}", &data));
        let place = format!("/proc/{}/ns/mnt", self.pid().unwrap_or_default());
        let mut all: Vec<String> = match () {
            () if fs::File::open(&place).is_ok() => {
                vec!["nsenter".to_owned(), format!("--mount={place}"), "--".to_owned()]
            }
            () if self.volume => self.mounting(),
            () => Vec::new(),
        };
        all.extend(words);
        let program = all.remove(0);
        run(&program, &all.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// What a command begins with to see the volume as the data directory.
    fn mounting(&self) -> Vec<String> {
        let path = |name: &str| self.folder.join(name).to_string_lossy().into_owned();
        let script = "mount -o loop \"$0\" \"$1\" && shift && exec \"$@\"".to_owned();
        let words = ["unshare", "--mount", "--propagation", "private", "--", "sh", "-c"].map(str::to_owned);
        words.into_iter().chain([script, path("volume"), path("data")]).collect()
    }

    /// Adds options for every start from now on, for instance `--read-only=ON`.
    pub fn add_options(&mut self, options: impl IntoIterator<Item = String>) {
        self.options.extend(options);
    }

    /// Leaves out, from the next start on, the options that contain `part`.
    pub fn drop_options(&mut self, part: &str) {
        self.options.retain(|option| !option.contains(part));
    }

    /// Lets the process go by a clock of its own, from the next start on.
    pub fn set_clock(&mut self, clock: Clock) {
        self.clock = Some(clock);
    }

    /// Starts the process and returns before it can answer.
    ///
    /// # Errors
    /// When it runs already or cannot be started.
    pub fn start(&mut self) -> io::Result<()> {
        if self.process.is_some() {
            return Err(io::Error::other(format!("{} was started already", self.addr)));
        }
        let mut args = self.arguments();
        let launcher = self.series.folder()?.join("mysqld").to_string_lossy().into_owned();
        // Each of these becomes the next one: the process id is the server's in the end.
        let clock = self.clock.iter().flat_map(|clock| ["env".to_owned()].into_iter().chain(clock.environment()));
        let mut words: Vec<_> = clock.chain([launcher]).collect();
        if self.volume {
            words.splice(0..0, self.mounting());
        }
        if let Some(host) = &self.host {
            words.splice(0..0, ["nsenter".to_owned(), format!("--net={}", host.namespace()), "--".to_owned()]);
        }
        args.splice(0..0, words);
        let program = args.remove(0);
        self.process = Some(Process::start(&program, &args, &self.log())?);
        Ok(())
    }

    fn arguments(&self) -> Vec<String> {
        let path = |name: &str| self.folder.join(name).to_string_lossy().into_owned();
        let mut args: Vec<String> = ["--no-defaults".to_owned()].into();
        args.extend(self.series.options().iter().map(|option| (*option).to_owned()));
        args.extend([
            format!("--datadir={}", path("data")),
            format!("--socket={}", path("s")),
            format!("--pid-file={}", path("pid")),
            format!("--tmpdir={}", self.folder.to_string_lossy()),
            format!("--bind-address={}", if self.host.is_some() { "0.0.0.0" } else { self.addr.host() }),
            format!("--port={}", self.addr.port()),
            format!("--server-id={}", self.id),
            format!("--report-host={}", self.addr.host()),
            format!("--report-port={}", self.addr.port()),
            "--log-bin=bin".to_owned(),
            "--relay-log=relay".to_owned(),
            "--skip-name-resolve".to_owned(),
            "--innodb-buffer-pool-size=32M".to_owned(),
            "--innodb-log-buffer-size=1M".to_owned(),
            "--key-buffer-size=1M".to_owned(),
            "--max-connections=100".to_owned(),
            "--table-open-cache=64".to_owned(),
            "--table-definition-cache=400".to_owned(),
        ]);
        args.extend(self.options.iter().cloned());
        args
    }

    /// Waits until the server answers a statement.
    ///
    /// # Errors
    /// When it ends or does not answer within a minute; the end of its log is in the error.
    pub async fn ready(&mut self) -> Result<(), FixtureError> {
        let started = Instant::now();
        loop {
            let running = self.process.as_mut().is_some_and(Process::is_running);
            let Err(error) = self.query("SELECT 1").await else { return Ok(()) };
            if !running || started.elapsed() > START_DEADLINE {
                let state = if running { "still running" } else { "the process ended" };
                let log = fs::read_to_string(self.log()).unwrap_or_default();
                let tail =
                    log.lines().rev().take(8).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("\n");
                let hint = format!(": {state}, {error}\n{tail}");
                let what = format!("the first answer of {}", self.addr);
                return Err(FixtureError::Late { what, seconds: START_DEADLINE.as_secs(), hint });
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Its log, both streams of the process, all starts in one file.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// Its address.
    #[must_use]
    pub fn addr(&self) -> &ServerAddr {
        &self.addr
    }

    /// Its series.
    #[must_use]
    pub fn series(&self) -> Series {
        self.series
    }

    /// Its host, when it has a network of its own.
    #[must_use]
    pub fn host(&self) -> Option<&Host> {
        self.host.as_ref()
    }

    /// Its clock, when it has one of its own.
    #[must_use]
    pub fn clock(&self) -> Option<&Clock> {
        self.clock.as_ref()
    }

    /// Its process id while it was started and not killed.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::pid)
    }

    /// SIGKILL, without waiting: what a crash looks like. The process is gone some milliseconds later.
    ///
    /// # Errors
    /// When it does not run.
    pub fn crash(&mut self) -> io::Result<()> {
        self.signal(Signal::Kill)
    }

    /// SIGSTOP: it hangs, its sockets still accept.
    ///
    /// # Errors
    /// When it does not run.
    pub fn freeze(&mut self) -> io::Result<()> {
        self.signal(Signal::Stop)
    }

    /// SIGCONT: it goes on where it hung.
    ///
    /// # Errors
    /// When it does not run.
    pub fn thaw(&mut self) -> io::Result<()> {
        self.signal(Signal::Continue)
    }

    /// SIGTERM: it is asked to stop in order.
    ///
    /// # Errors
    /// When it does not run.
    pub fn terminate(&mut self) -> io::Result<()> {
        self.signal(Signal::Terminate)
    }

    fn signal(&mut self, signal: Signal) -> io::Result<()> {
        let addr = &self.addr;
        let process = self.process.as_mut().ok_or_else(|| io::Error::other(format!("{addr} does not run")))?;
        process.signal(signal)
    }

    /// Whether it was started and its process has ended since.
    #[must_use]
    pub fn has_ended(&mut self) -> bool {
        self.process.as_mut().is_some_and(|process| !process.is_running())
    }

    /// Kills what is left of the process, starts it anew on the same data and waits for an answer.
    ///
    /// # Errors
    /// As [`Server::start`] and [`Server::ready`].
    pub async fn restart(&mut self) -> Result<(), FixtureError> {
        self.process = None;
        self.start()?;
        self.ready().await
    }

    /// A session of `account`; the caller bounds what it does with it.
    ///
    /// # Errors
    /// When there is none within 5 s.
    pub async fn connect(&self, account: Account) -> Result<Conn, FixtureError> {
        let connecting = timeout(CONNECT_DEADLINE, Conn::new(options(&self.addr, account)));
        match connecting.await {
            Ok(result) => result.map_err(|source| self.error("connect", source)),
            Err(_) => Err(self.late("connect", CONNECT_DEADLINE)),
        }
    }

    /// Runs one statement in a session of its own, as the operator's account, and gives all rows.
    ///
    /// # Errors
    /// When the server is away, refuses or does not answer within 30 s.
    pub async fn query(&self, statement: &str) -> Result<Vec<Row>, FixtureError> {
        let mut session = self.connect(Account::Baton).await?;
        let rows = match timeout(STATEMENT_DEADLINE, session.query(statement)).await {
            Ok(result) => result.map_err(|source| self.error(statement, source))?,
            Err(_) => return Err(self.late(statement, STATEMENT_DEADLINE)),
        };
        drop(timeout(CONNECT_DEADLINE, session.disconnect()).await);
        Ok(rows)
    }

    /// The first column of the first row as text; empty for NULL and for no row.
    ///
    /// # Errors
    /// As [`Server::query`].
    pub async fn value(&self, statement: &str) -> Result<String, FixtureError> {
        let rows = self.query(statement).await?;
        let value = rows.first().and_then(|row| row.get_opt::<Option<String>, _>(0));
        Ok(value.and_then(Result::ok).flatten().unwrap_or_default())
    }

    fn error(&self, statement: &str, source: mysql_async::Error) -> FixtureError {
        FixtureError::Mysql { server: self.addr.clone(), statement: statement.to_owned(), source }
    }

    fn late(&self, statement: &str, bound: Duration) -> FixtureError {
        let what = format!("{}: {statement}", self.addr);
        FixtureError::Late { what, seconds: bound.as_secs(), hint: String::new() }
    }
}

/// How to reach `addr` as `account`: TCP, no TLS, nothing asked at connect.
#[must_use]
pub fn options(addr: &ServerAddr, account: Account) -> OptsBuilder {
    OptsBuilder::default()
        .ip_or_hostname(addr.host())
        .tcp_port(addr.port())
        .user(Some(account.name()))
        .pass(Some(account.name()))
        .prefer_socket(false)
        .max_allowed_packet(Some(16 * 1024 * 1024))
        .wait_timeout(Some(28_800))
        .stmt_cache_size(0)
}
