//! Child processes that cannot outlive us: the kernel kills them when this process ends, however it
//! ends, so a crashed test leaves no server, no namespace and no link behind.
//!
//! The kernel ties a child to the *thread* that started it. Test threads end early, so all children
//! are started by one thread that lives as long as the process.

use std::{
    fs::File,
    io,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        OnceLock,
        mpsc::{Sender, channel},
    },
    thread,
};

/// A command and where its child goes.
type Order = (Command, Sender<io::Result<Child>>);

/// A child process of our own; dropping it kills it and waits for its end.
#[derive(Debug)]
pub struct Process {
    child: Child,
}

/// What can be sent to a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Ends it at once, no handler runs.
    Kill,
    /// Asks it to end in order.
    Terminate,
    /// Freezes it: its sockets stay open and still accept.
    Stop,
    /// Lets it go on after [`Signal::Stop`].
    Continue,
}

impl Process {
    /// Starts `program` with `args`; its output goes to `log` (both streams, appended).
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn start(program: &str, args: &[String], log: &Path) -> io::Result<Self> {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--", program]).args(args).stdin(Stdio::null());
        let log = File::options().create(true).append(true).open(log)?;
        command.stdout(log.try_clone()?).stderr(log);
        let (reply, child) = channel();
        spawner().send((command, reply)).map_err(io::Error::other)?;
        Ok(Self { child: child.recv().map_err(io::Error::other)?? })
    }

    /// Process id; it stays ours until the process was dropped.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends `signal`.
    ///
    /// # Errors
    /// When the process has ended already.
    pub fn signal(&mut self, signal: Signal) -> io::Result<()> {
        let name = match signal {
            Signal::Kill => return self.child.kill(),
            Signal::Terminate => "-TERM",
            Signal::Stop => "-STOP",
            Signal::Continue => "-CONT",
        };
        run("kill", &[name, &self.pid().to_string()]).map(drop)
    }

    /// Whether it still runs (a frozen process does).
    #[must_use]
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// The code it ended with; `None` while it runs, or when a signal ended it.
    #[must_use]
    pub fn exit_code(&mut self) -> Option<i32> {
        self.child.try_wait().ok().flatten()?.code()
    }

    /// Kills it and waits until it is gone.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub fn kill(&mut self) -> io::Result<()> {
        if self.is_running() {
            self.child.kill()?;
        }
        self.child.wait().map(drop)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.kill());
    }
}

/// The thread that starts all children.
fn spawner() -> &'static Sender<Order> {
    static SPAWNER: OnceLock<Sender<Order>> = OnceLock::new();
    SPAWNER.get_or_init(|| {
        let (sender, orders) = channel::<Order>();
        thread::spawn(move || {
            for (mut command, reply) in orders {
                // Fails when nobody waits any more; the child then ends with this process.
                drop(reply.send(command.spawn()));
            }
        });
        sender
    })
}

/// Runs a short command to its end and gives its standard output.
///
/// # Errors
/// When it cannot be started or fails; the text holds what it wrote to standard error.
pub fn run(program: &str, args: &[&str]) -> io::Result<String> {
    let output = Command::new(program).args(args).stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("{program} {}: {}: {}", args.join(" "), output.status, said.trim())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(pid: u32) -> Option<char> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(") ")?.1.chars().next()
    }

    fn wait_for(pid: u32, wanted: Option<char>) {
        for _ in 0..500 {
            if state(pid) == wanted {
                return;
            }
            thread::sleep(std::time::Duration::from_millis(10));
        }
        panic!("state of {pid} is {:?}, not {wanted:?}", state(pid));
    }

    #[test]
    fn a_child_outlives_the_thread_that_asked_for_it_but_not_its_owner() {
        let asked = thread::spawn(|| Process::start("sleep", &["60".into()], Path::new("/dev/null")).unwrap());
        let mut process = asked.join().unwrap();
        wait_for(process.pid(), Some('S'));
        assert!(process.is_running());
        process.signal(Signal::Stop).unwrap();
        wait_for(process.pid(), Some('T'));
        process.signal(Signal::Continue).unwrap();
        wait_for(process.pid(), Some('S'));
        let pid = process.pid();
        drop(process);
        assert_eq!(state(pid), None);
    }

    #[test]
    fn a_failing_command_says_why() {
        let error = run("ls", &["/nonexistent-folder"]).unwrap_err().to_string();
        assert!(error.contains("ls /nonexistent-folder") && error.contains("No such file"), "{error}");
    }
}
