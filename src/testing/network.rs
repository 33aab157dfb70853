//! Networks for tests: every server in a namespace of its own, on one switch, so that its link can be
//! cut without a trace on the host.
//!
//! Nothing here has a name outside this process: namespaces are held by child processes, links end
//! with the namespaces, and the kernel ends the children with us. Addresses are from 198.18.64.0/18,
//! a part of the benchmark range (RFC 2544) that is never routed; the demo and the local Kubernetes
//! use other parts of it.

use std::{
    io,
    net::Ipv4Addr,
    path::Path,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use super::process::{Process, run};

/// Set for tests that run in a namespace of their own by [`enter_own_namespace`].
const ENTERED: &str = "BATON_TEST_NAMESPACE";
/// How long the kernel may take to make a namespace.
const NAMESPACE_DEADLINE: Duration = Duration::from_secs(10);
/// Number of our own address in every network.
const OUTSIDE: u8 = 254;
/// Networks of this process so far: part of their links' names and addresses.
static NETWORKS: AtomicU32 = AtomicU32::new(0);

/// Which packets of a host are dropped silently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// Both directions: as if the cable were out, or the machine gone.
    Both,
    /// What others send to the host.
    Inbound,
    /// What the host sends to others.
    Outbound,
}

/// A network namespace without a name, alive as long as its holder.
#[derive(Debug)]
struct Namespace {
    holder: Process,
}

impl Namespace {
    fn new() -> io::Result<Self> {
        // The program is named `sleep` from the moment its namespace is the new one.
        let args = ["--net", "--", "sleep", "infinity"].map(str::to_owned);
        let holder = Process::start("unshare", &args, Path::new("/dev/null"))?;
        let comm = format!("/proc/{}/comm", holder.pid());
        let started = Instant::now();
        while std::fs::read_to_string(&comm)?.trim() != "sleep" {
            if started.elapsed() > NAMESPACE_DEADLINE {
                return Err(io::Error::other("no network namespace within 10 s"));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        let namespace = Self { holder };
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    fn path(&self) -> String {
        format!("/proc/{}/ns/net", self.holder.pid())
    }

    /// Runs `ip` with the words of `args` inside.
    fn ip(&self, args: &str) -> io::Result<String> {
        let net = format!("--net={}", self.path());
        let mut words = vec![net.as_str(), "--", "ip"];
        words.extend(args.split(' '));
        run("nsenter", &words)
    }
}

/// A switch with hosts; this process is one of them, at the last address.
#[derive(Debug)]
pub struct Network {
    switch: Namespace,
    subnet: u8,
    hosts: u8,
}

/// A host: a namespace with one link to the switch.
#[derive(Debug)]
pub struct Host {
    namespace: Namespace,
    address: Ipv4Addr,
}

impl Network {
    /// Makes a switch and links this process' own namespace to it.
    ///
    /// # Errors
    /// Without the right to make namespaces (root), or when 64 networks are in use here.
    pub fn new() -> io::Result<Self> {
        let switch = Namespace::new()?;
        switch.ip("link add br0 type bridge forward_delay 0")?;
        switch.ip("link set br0 up")?;
        let (pid, count) = (std::process::id(), NETWORKS.fetch_add(1, Ordering::Relaxed));
        let subnet = free_subnet(pid.wrapping_add(count))?;
        let network = Self { switch, subnet, hosts: 0 };
        let link = format!("bt{pid}n{count}");
        run("ip", &["link", "add", &link, "type", "veth", "peer", "name", "up0", "netns", &network.switch_pid()])?;
        network.switch.ip("link set up0 master br0 up")?;
        run("ip", &["addr", "add", &format!("{}/24", network.outside()), "dev", &link])?;
        run("ip", &["link", "set", &link, "up"])?;
        Ok(network)
    }

    /// Adds a host with the next free address.
    ///
    /// # Errors
    /// When a link cannot be made, or there are 253 hosts already.
    pub fn add_host(&mut self) -> io::Result<Host> {
        if self.hosts >= 253 {
            return Err(io::Error::other("a network has at most 253 hosts"));
        }
        self.hosts += 1;
        let address = self.address(self.hosts);
        let port = format!("p{}", self.hosts);
        let namespace = Namespace::new()?;
        let holder = namespace.holder.pid();
        self.switch.ip(&format!("link add {port} type veth peer name eth0 netns {holder}"))?;
        self.switch.ip(&format!("link set {port} master br0 up"))?;
        namespace.ip(&format!("addr add {address}/24 dev eth0"))?;
        namespace.ip("link set eth0 up")?;
        Ok(Host { namespace, address })
    }

    /// Our own address in it, under which hosts reach this process.
    #[must_use]
    pub fn outside(&self) -> Ipv4Addr {
        self.address(OUTSIDE)
    }

    fn address(&self, host: u8) -> Ipv4Addr {
        Ipv4Addr::new(198, 18, self.subnet, host)
    }

    fn switch_pid(&self) -> String {
        self.switch.holder.pid().to_string()
    }
}

impl Host {
    /// Its address.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// The file that names its namespace, for `nsenter --net=`.
    #[must_use]
    pub fn namespace(&self) -> String {
        self.namespace.path()
    }

    /// Drops packets silently from now on: open connections hang, new ones time out.
    ///
    /// # Errors
    /// When the kernel refuses the rule.
    pub fn cut(&self, cut: Cut) -> io::Result<()> {
        self.drop_packets("cut", cut, |_| "drop".to_owned())
    }

    /// Like [`Host::cut`], but only what goes to `peers` or comes from them.
    ///
    /// # Errors
    /// When the kernel refuses the rule.
    pub fn part(&self, peers: &[Ipv4Addr], cut: Cut) -> io::Result<()> {
        let peers = peers.iter().map(Ipv4Addr::to_string).collect::<Vec<_>>().join(", ");
        self.drop_packets("cut", cut, |end| format!("ip {end} {{ {peers} }} drop"))
    }

    /// Drops `percent` of all packets by chance, each way; 0 ends that.
    ///
    /// # Errors
    /// When the kernel refuses the rule.
    pub fn lose(&self, percent: u32) -> io::Result<()> {
        self.drop_packets("loss", Cut::Both, |_| format!("numgen random mod 100 < {percent} drop"))
    }

    /// Lets everything through again that was cut.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn heal(&self) -> io::Result<()> {
        self.nft("add table inet cut; delete table inet cut")
    }

    /// Replaces the rules of `table`; `rule` is given the field that names the other end.
    fn drop_packets(&self, table: &str, cut: Cut, rule: impl Fn(&str) -> String) -> io::Result<()> {
        let mut rules = format!("add table inet {table}; delete table inet {table}; add table inet {table}; ");
        let chains = [("in", "input", "iifname", "saddr"), ("out", "output", "oifname", "daddr")];
        for (chain, hook, link, end) in chains {
            if cut == Cut::Both || (cut == Cut::Inbound) == (chain == "in") {
                rules.push_str(&format!(
                    "add chain inet {table} {chain} {{ type filter hook {hook} priority 0; }}; \
                     add rule inet {table} {chain} {link} \"eth0\" {}; ",
                    rule(end)
                ));
            }
        }
        self.nft(&rules)
    }

    fn nft(&self, rules: &str) -> io::Result<()> {
        run("nsenter", &[&format!("--net={}", self.namespace()), "--", "nft", rules]).map(drop)
    }
}

/// The third part of a /24 that no link of this namespace uses, tried from `start`.
fn free_subnet(start: u32) -> io::Result<u8> {
    let used = run("ip", &["-o", "-4", "addr"])?;
    (0..64)
        .map(|step| 64 + u8::try_from(start.wrapping_add(step) % 64).unwrap_or_default())
        .find(|subnet| !used.contains(&format!(" 198.18.{subnet}.")))
        .ok_or_else(|| io::Error::other("198.18.64.0/18 is in use"))
}

/// For a test that makes networks, so that not even a link appears on the machine: runs the test `name`
/// (its full path in this test program) once more in a fresh namespace and answers `false` when that
/// has passed; there, answers `true`.
///
/// # Errors
/// When the test failed there, with all it wrote.
pub fn enter_own_namespace(name: &str) -> io::Result<bool> {
    if std::env::var_os(ENTERED).is_some() {
        return Ok(true);
    }
    let program = std::env::current_exe()?;
    let script = format!("export {ENTERED}=1; ip link set lo up && exec \"$0\" \"$@\"");
    let args = ["--pdeathsig", "KILL", "--", "unshare", "--net", "--", "sh", "-c"];
    let test = [&program.to_string_lossy(), "--exact", name, "--nocapture"];
    let said = run("setpriv", &[args.as_slice(), &[script.as_str()], test.as_slice()].concat())?;
    if said.contains("1 passed") { Ok(false) } else { Err(io::Error::other(format!("no test is named {name}"))) }
}
