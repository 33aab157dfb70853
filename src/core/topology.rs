//! Who replicates from whom, and who is the primary: worked out from the newest observation of every
//! server, answering or not.
//!
//! Servers are recognised by UUID first, then by address, then by the address they report. The result
//! depends on nothing but the snapshot, and rings of servers end it like any other shape.

mod choice;
mod ring;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{
    id::ServerAddr,
    observation::{Channel, Observation},
    snapshot::Snapshot,
    status::Role,
};

/// One server's place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The part it plays.
    pub role: Role,
    /// Servers of the cluster it replicates from.
    pub sources: BTreeSet<ServerAddr>,
    /// Servers of the cluster that replicate from it, directly.
    pub replicas: BTreeSet<ServerAddr>,
    /// It also replicates from a server that is not part of the cluster.
    pub outside_source: bool,
    /// Steps from the primary: 0 for the primary itself; `None`: not below it.
    pub depth: Option<u32>,
}

/// The cluster's shape.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Topology {
    /// The primary; `None` when nobody is or two could be.
    pub primary: Option<ServerAddr>,
    /// Every server.
    pub members: BTreeMap<ServerAddr, Member>,
    /// Rings of three and more servers, each sorted by address.
    pub rings: Vec<Vec<ServerAddr>>,
    /// Servers other than the primary that were last seen writable and replicate from nobody of the
    /// cluster; with no primary, all that could be it.
    pub rivals: Vec<ServerAddr>,
}

impl Topology {
    /// Works the shape out.
    #[must_use]
    pub fn of(snapshot: &Snapshot) -> Self {
        let mut members = edges(snapshot);
        let rings = ring::find(&members);
        let primary = choice::primary(snapshot, &members, &rings);
        set_depths(&mut members, primary.as_ref());
        let rivals = choice::rivals(snapshot, &members, primary.as_ref());
        let mut topology = Self { primary, members, rings, rivals };
        topology.set_roles(snapshot);
        topology
    }

    /// The server that replicates from this one and that this one replicates from.
    #[must_use]
    pub fn co_primary(&self, addr: &ServerAddr) -> Option<&ServerAddr> {
        co_primary(&self.members, addr)
    }

    /// The direct replicas of a server, by address.
    pub fn replicas(&self, addr: &ServerAddr) -> impl Iterator<Item = &ServerAddr> {
        self.members.get(addr).into_iter().flat_map(|member| &member.replicas)
    }

    /// The part a server plays.
    #[must_use]
    pub fn role_of(&self, addr: &ServerAddr) -> Role {
        self.members.get(addr).map_or(Role::Unknown, |member| member.role)
    }

    fn set_roles(&mut self, snapshot: &Snapshot) {
        let role = |(addr, member): (&ServerAddr, &Member)| {
            let role = match () {
                () if self.primary.as_ref() == Some(addr) => Role::Primary,
                () if self.co_primary(addr).is_some() => Role::CoPrimary,
                () if snapshot.last(addr).is_none() && member.replicas.is_empty() => Role::Unknown,
                () if member.sources.is_empty() => Role::Detached,
                () if member.replicas.is_empty() => Role::Replica,
                () => Role::IntermediatePrimary,
            };
            (addr.clone(), role)
        };
        let roles: Vec<_> = self.members.iter().map(role).collect();
        for (addr, role) in roles {
            if let Some(member) = self.members.get_mut(&addr) {
                member.role = role;
            }
        }
    }
}

fn co_primary<'a>(members: &'a BTreeMap<ServerAddr, Member>, addr: &ServerAddr) -> Option<&'a ServerAddr> {
    let sources = &members.get(addr)?.sources;
    sources.iter().find(|source| members.get(*source).is_some_and(|member| member.sources.contains(addr)))
}

/// Names by which servers speak of each other.
struct Names<'a> {
    by_uuid: BTreeMap<&'a str, &'a ServerAddr>,
    by_report: BTreeMap<&'a ServerAddr, &'a ServerAddr>,
}

impl<'a> Names<'a> {
    fn of(snapshot: &'a Snapshot) -> Self {
        let seen = || snapshot.servers.iter().filter_map(|(addr, state)| Some((addr, state.last.as_ref()?)));
        // Of two servers with one name the first by address has it, so that the result is one.
        let mut names = Self { by_uuid: BTreeMap::new(), by_report: BTreeMap::new() };
        for (addr, seen) in seen() {
            names.by_uuid.entry(seen.identity.uuid.as_str()).or_insert(addr);
            if let Some(reported) = &seen.identity.reported {
                names.by_report.entry(reported).or_insert(addr);
            }
        }
        names
    }

    fn source(&self, snapshot: &'a Snapshot, channel: &'a Channel) -> Option<&'a ServerAddr> {
        let uuid = channel.source_uuid.as_deref();
        let addr = channel.source.as_ref();
        let by_uuid = uuid.and_then(|uuid| self.by_uuid.get(uuid).copied());
        let by_addr = || addr.and_then(|addr| Some(snapshot.servers.get_key_value(addr)?.0));
        by_uuid.or_else(by_addr).or_else(|| self.by_report.get(addr?).copied())
    }
}

fn edges(snapshot: &Snapshot) -> BTreeMap<ServerAddr, Member> {
    let names = Names::of(snapshot);
    let member = |addr: &ServerAddr, seen: Option<&Observation>| {
        let channels = || seen.into_iter().flat_map(|seen| &seen.channels);
        let found = || channels().map(|channel| names.source(snapshot, channel));
        Member {
            role: Role::Unknown,
            sources: found().flatten().filter(|source| *source != addr).cloned().collect(),
            replicas: BTreeSet::new(),
            outside_source: found().any(|source| source.is_none()),
            depth: None,
        }
    };
    let servers = snapshot.servers.iter();
    let mut members: BTreeMap<_, _> =
        servers.map(|(addr, state)| (addr.clone(), member(addr, state.last.as_ref()))).collect();
    let pairs = members.iter().flat_map(|(addr, member)| member.sources.iter().map(move |source| (source, addr)));
    let pairs: Vec<_> = pairs.map(|(source, addr)| (source.clone(), addr.clone())).collect();
    for (source, addr) in pairs {
        if let Some(member) = members.get_mut(&source) {
            member.replicas.insert(addr);
        }
    }
    members
}

/// Breadth first from the primary; a server is entered once, so rings end.
fn set_depths(members: &mut BTreeMap<ServerAddr, Member>, primary: Option<&ServerAddr>) {
    let mut queue: VecDeque<(ServerAddr, u32)> = primary.map(|addr| (addr.clone(), 0)).into_iter().collect();
    while let Some((addr, depth)) = queue.pop_front() {
        let Some(member) = members.get_mut(&addr).filter(|member| member.depth.is_none()) else { continue };
        member.depth = Some(depth);
        queue.extend(member.replicas.iter().map(|replica| (replica.clone(), depth.saturating_add(1))));
    }
}
