//! What guards say of connections, in numbers: for each source and each guard the few answers that the kernel looks up.
//!
//! A source is everybody whom no rule tells apart: workloads of one service account, at addresses of the same blocks. What is
//! said of most sources is written once, for any; so the size of a table is that of the exceptions, and a look-up takes the same
//! few steps however many rules there are.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Arc;

use super::{Block, Connection, Decision, Guard, Policy, Principal, Rule, RuleName, Ruling, Said, Verdict, Whence};
use crate::snapshot::Snapshot;
use crate::workload::{Enrolment, Mtls, MtlsMode, Workload};

/// The number of sources of whom nothing is known.
pub const UNKNOWN: u32 = 0;

/// What the kernel is told.
#[derive(Debug, Default)]
pub struct Table {
    /// Who is where, and what guards it; the longest block counts.
    pub places: BTreeMap<Block, Ends>,
    /// What is answered. A key with more in it comes first: the source and the port, the source alone, the port alone.
    pub entries: BTreeMap<Key, Entry>,
    /// What the numbers in the entries stand for: what says so, and whether it keeps something out or only tells of it.
    pub rulings: BTreeMap<u32, (Verdict, Arc<Ruling>)>,
}

/// What an address stands for, as the source and as the destination of connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Ends {
    /// Number of the source; [`UNKNOWN`] for one of whom nothing is known.
    pub source: u32,
    /// Number of its guard; 0 for none.
    pub guard: u32,
    /// Number of what says how it is reached from other nodes; 0 for nothing. It is asked as a guard is, for any source: of what runs
    /// here, whether it may be reached in the clear; of what runs elsewhere, whether by the proxy, which makes tunnels
    /// ([`Verdict::Ask`]).
    pub mtls: u32,
}

/// What is looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// `None` for all of whom nothing else is said.
    pub source: Option<u32>,
    /// Number of the guard.
    pub guard: u32,
    /// `None` for all ports, and protocols, of which nothing else is said.
    pub port: Option<(Transport, u16)>,
}

/// What has ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// An answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Entry {
    /// What happens.
    pub verdict: Verdict,
    /// Number of who says so; 0 where it need not be told.
    pub ruling: u32,
}

impl Table {
    /// What an address stands for.
    pub fn ends(&self, address: IpAddr) -> Ends {
        let address = Block::of(address.to_canonical());
        let bits = (0..=address.bits).rev();
        bits.filter_map(|bits| self.places.get(&Block::new(address.first, bits)?)).next().copied().unwrap_or_default()
    }
}

/// Gives numbers, each for one thing for as long as it is in use, and never again for another.
#[derive(Debug)]
pub struct Numbers {
    next: u32,
    /// Counts tables.
    generation: u64,
    sources: HashMap<Source, Given>,
    guards: HashMap<GuardKey, Given>,
    rulings: HashMap<(RuleName, Verdict), Given>,
    mtls: HashMap<(Mtls, bool), Given>,
}

type Source = (Option<Principal>, BTreeSet<Block>);
/// A guard, and the ports at which requests may come.
type GuardKey = (Arc<str>, BTreeSet<u16>);

#[derive(Debug)]
struct Given {
    number: u32,
    used: u64,
}

impl Numbers {
    /// Numbers after this one, which is the greatest that somebody else has given to what is still there.
    pub fn after(last: u32) -> Self {
        Self {
            next: last + 1,
            generation: 0,
            sources: HashMap::new(),
            guards: HashMap::new(),
            rulings: HashMap::new(),
            mtls: HashMap::new(),
        }
    }

    /// From now on new numbers come after this one as well.
    pub fn skip(&mut self, last: u32) {
        self.next = self.next.max(last + 1);
    }

    /// The table for a snapshot, on a node that makes tunnels, of this name, or on one that makes none. Empty where nothing is
    /// guarded.
    pub fn table(&mut self, snapshot: &Snapshot, node: Option<&str>) -> Table {
        self.generation += 1;
        let workloads: BTreeMap<IpAddr, &Arc<Workload>> = snapshot.workloads().map(|(ip, one)| (*ip, one)).collect();
        let guards = workloads.values().filter_map(|workload| workload.guard.as_ref());
        let blocks: BTreeSet<Block> = guards.flat_map(blocks).copied().collect();
        let is_reached = |workload: &&Arc<Workload>| node.is_some() && workload.mtls.is_some();
        if !snapshot.has_guards() && !workloads.values().any(is_reached) {
            return Table::default();
        }
        let mut table = Table::default();
        let mut sources: BTreeMap<Source, u32> = BTreeMap::from([((None, BTreeSet::new()), UNKNOWN)]);
        let mut guarded: BTreeMap<u32, (&Arc<Guard>, GuardKey)> = BTreeMap::new();
        for block in &blocks {
            let source = self.source((None, within(&blocks, block)), &mut sources);
            table.places.insert(*block, Ends { source, ..Ends::default() });
        }
        let ports = request_ports(snapshot);
        let mut reached: BTreeMap<u32, (&Mtls, bool)> = BTreeMap::new();
        for (address, workload) in workloads {
            let block = Block::of(address);
            let principal = Some(&workload.principal).filter(|_| workload.enrolment == Enrolment::Enrolled);
            let source = self.source((principal.cloned(), within(&blocks, &block)), &mut sources);
            let mut ends = Ends { source, ..Ends::default() };
            if let Some(guard) = &workload.guard {
                let ports = ports.get(&address).cloned().unwrap_or_default();
                let key = (Arc::clone(guard.key()), ports);
                ends.guard = given(&mut self.guards, key.clone(), &mut self.next, self.generation);
                guarded.insert(ends.guard, (guard, key));
            }
            if let (Some(node), Some(mtls)) = (node, &workload.mtls) {
                let is_elsewhere = workload.is_elsewhere(node);
                let key = (mtls.clone(), is_elsewhere);
                ends.mtls = given(&mut self.mtls, key, &mut self.next, self.generation);
                reached.insert(ends.mtls, (mtls, is_elsewhere));
            }
            table.places.insert(block, ends);
        }
        for (number, (mtls, is_elsewhere)) in reached {
            reach(&mut table, number, mtls, is_elsewhere);
        }
        for (number, (guard, (_, ports))) in guarded {
            self.answer(&mut table, (number, guard, &ports), &sources);
        }
        // What the table before had may still be in use.
        let is_used = |given: &Given| given.used + 1 >= self.generation;
        self.sources.retain(|_, given| is_used(given));
        self.guards.retain(|_, given| is_used(given));
        self.rulings.retain(|_, given| is_used(given));
        self.mtls.retain(|_, given| is_used(given));
        table
    }

    fn source(&mut self, source: Source, all: &mut BTreeMap<Source, u32>) -> u32 {
        if let Some(number) = all.get(&source) {
            return *number;
        }
        let number = given(&mut self.sources, source.clone(), &mut self.next, self.generation);
        all.insert(source, number);
        number
    }

    /// Writes down what a guard says of each source.
    fn answer(
        &mut self,
        table: &mut Table,
        (number, guard, ports): (u32, &Arc<Guard>, &BTreeSet<u16>),
        sources: &BTreeMap<Source, u32>,
    ) {
        let mut rows: BTreeMap<Row, Vec<u32>> = BTreeMap::new();
        for ((principal, within), source) in sources {
            let row = self.row(table, guard, ports, (principal.as_ref(), within));
            rows.entry(row).or_default().push(*source);
        }
        // Of rows that are equally common the one that says less.
        let usual = rows.iter().max_by_key(|(row, sources)| (sources.len(), usize::MAX - row.ports.len()));
        let usual = usual.map(|(row, _)| row.clone());
        for (row, sources) in rows {
            let sources =
                if Some(&row) == usual.as_ref() { vec![None] } else { sources.into_iter().map(Some).collect() };
            for source in sources {
                let key = |port| Key { source, guard: number, port };
                table.entries.insert(key(None), row.other);
                table.entries.extend(row.ports.iter().map(|(port, entry)| (key(Some(*port)), *entry)));
            }
        }
    }

    fn row(
        &mut self,
        table: &mut Table,
        guard: &Guard,
        ports: &BTreeSet<u16>,
        (principal, within): (Option<&Principal>, &BTreeSet<Block>),
    ) -> Row {
        let connection = Connection { principal, whence: Whence::Within(within), port: None };
        let concerning: Vec<Concerning<'_>> =
            guard.policies().iter().map(|policy| Concerning::new(policy, &connection)).collect();
        let mut entry = |port, said| {
            let connection = Connection { port, ..connection };
            let Decision { verdict, ruling } = guard.decide_by(|index| concerning[index].at(port), &connection, said);
            let ruling = ruling.filter(|_| matches!(verdict, Verdict::Deny | Verdict::Audit));
            let number = |ruling: &Arc<Ruling>| {
                let key = (ruling.name.clone(), verdict);
                let number = given(&mut self.rulings, key, &mut self.next, self.generation);
                table.rulings.entry(number).or_insert_with(|| (verdict, Arc::clone(ruling)));
                number
            };
            Entry { verdict, ruling: ruling.map_or(0, number) }
        };
        let other = entry(None, Said::Opaque);
        let named = concerning.iter().flat_map(|one| &one.rules).flat_map(|rule| rule.ports());
        let named = named.chain(ports.iter().copied());
        let mut row = Row { other, ports: BTreeMap::new() };
        for port in named.collect::<BTreeSet<_>>() {
            let said = if ports.contains(&port) { Said::Nothing } else { Said::Opaque };
            for (transport, said) in [(Transport::Tcp, said), (Transport::Udp, Said::Opaque)] {
                let entry = entry(Some(port), said);
                if entry != other {
                    row.ports.insert((transport, port), entry);
                }
            }
        }
        row
    }
}

/// Writes down how a workload is reached from other nodes, or, if it runs elsewhere, from this one.
fn reach(table: &mut Table, number: u32, mtls: &Mtls, is_elsewhere: bool) {
    let entry = |mode: MtlsMode| {
        let verdict = match (mode, is_elsewhere) {
            (MtlsMode::Disabled, _) => Verdict::Allow,
            (MtlsMode::Strict | MtlsMode::Permissive, true) => Verdict::Ask,
            (MtlsMode::Permissive, false) => Verdict::Audit,
            (MtlsMode::Strict, false) => Verdict::Deny,
        };
        Entry { verdict, ruling: 0 }
    };
    let key = |port| Key { source: None, guard: number, port };
    table.entries.insert(key(None), entry(mtls.mode));
    table.entries.extend(mtls.ports.iter().map(|(port, mode)| (key(Some((Transport::Tcp, *port))), entry(*mode))));
}

/// The rules of a policy that can match connections of a source.
struct Concerning<'g> {
    rules: Vec<&'g Rule>,
    /// Places of those that can match at ports that they do not name.
    anywhere: Vec<usize>,
    /// Places of the others by their ports, so that not every rule is asked about every port.
    at: HashMap<u16, Vec<usize>>,
}

impl<'g> Concerning<'g> {
    fn new(policy: &'g Policy, connection: &Connection<'_>) -> Self {
        let rules: Vec<&Rule> = policy.rules.iter().filter(|rule| rule.may_concern(connection)).collect();
        let (mut anywhere, mut at) = (Vec::new(), HashMap::<u16, Vec<usize>>::new());
        for (place, rule) in rules.iter().enumerate() {
            match rule.only_ports() {
                None => anywhere.push(place),
                Some(ports) => ports.into_iter().for_each(|port| at.entry(port).or_default().push(place)),
            }
        }
        Self { rules, anywhere, at }
    }

    /// Those that can match at a port, in their order.
    fn at(&self, port: Option<u16>) -> impl Iterator<Item = &'g Rule> {
        let own = port.and_then(|port| self.at.get(&port));
        let mut places: Vec<usize> = self.anywhere.iter().chain(own.into_iter().flatten()).copied().collect();
        places.sort_unstable();
        places.into_iter().map(|place| self.rules[place])
    }
}

/// What a guard says of one source.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    other: Entry,
    ports: BTreeMap<(Transport, u16), Entry>,
}

fn given<K: Eq + Hash>(numbers: &mut HashMap<K, Given>, key: K, next: &mut u32, generation: u64) -> u32 {
    let given = numbers.entry(key).or_insert_with(|| {
        let number = *next;
        *next += 1;
        Given { number, used: generation }
    });
    given.used = generation;
    given.number
}

fn blocks(guard: &Arc<Guard>) -> impl Iterator<Item = &Block> {
    guard.policies().iter().flat_map(|policy| &policy.rules).flat_map(Rule::blocks)
}

fn within(blocks: &BTreeSet<Block>, block: &Block) -> BTreeSet<Block> {
    blocks.iter().filter(|one| one.contains(block)).copied().collect()
}

/// The ports of workloads at which requests may come, as far as it matters.
fn request_ports(snapshot: &Snapshot) -> HashMap<IpAddr, BTreeSet<u16>> {
    let mut ports: HashMap<IpAddr, BTreeSet<u16>> = HashMap::new();
    for address in snapshot.guarded_for_requests() {
        ports.entry(address.ip()).or_default().insert(address.port());
    }
    ports
}
