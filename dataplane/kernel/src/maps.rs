//! The maps as collections: read whole, changed entry by entry.

use std::collections::BTreeMap;

use aya::{
    Ebpf,
    maps::{
        Array, HashMap, LpmTrie, Map, MapData, MapError, PerCpuArray, PerCpuHashMap, RingBuf, SockMap, lpm_trie::Key,
    },
};
use weir_ebpf_common::{
    Addr, BackendKey, BackendRecord, Config, Count, PlaceRecord, PodRecord, PolicyKey, PolicyRecord, Reason,
    SOURCE_ANY, ServiceKey, ServiceRecord, maps,
};

use crate::{
    KernelError,
    plan::{Change, State},
    raw::Raw,
};

type Hash<K, V> = HashMap<MapData, Raw<K>, Raw<V>>;

/// Typed handles of all maps that user space touches.
pub(crate) struct Maps {
    config: Array<MapData, Raw<Config>>,
    pub(crate) pods: Hash<u32, PodRecord>,
    pub(crate) netns: Hash<u64, u32>,
    places: LpmTrie<MapData, Raw<Addr>, Raw<PlaceRecord>>,
    pub(crate) services: Hash<ServiceKey, ServiceRecord>,
    backends: Hash<BackendKey, BackendRecord>,
    pub(crate) policies: Hash<PolicyKey, PolicyRecord>,
    rules: PerCpuHashMap<MapData, u32, Raw<Count>>,
    pub(crate) node_addresses: Hash<Addr, u8>,
    pub(crate) steer_interfaces: Hash<u32, u32>,
    pub(crate) listen: SockMap<MapData>,
    counts: PerCpuArray<MapData, Raw<Count>>,
    pub(crate) events: Option<RingBuf<MapData>>,
}

fn take<T: TryFrom<Map>>(object: &mut Ebpf, name: &'static str) -> Result<T, KernelError> {
    let map = object.take_map(name).ok_or(KernelError::Missing(name))?;
    T::try_from(map).map_err(|_| KernelError::Missing(name))
}

fn failed(name: &'static str) -> impl Fn(MapError) -> KernelError {
    move |source| KernelError::Map { name, source }
}

impl Maps {
    pub(crate) fn take(object: &mut Ebpf) -> Result<Self, KernelError> {
        Ok(Self {
            config: take(object, maps::CONFIG)?,
            pods: take(object, maps::PODS)?,
            netns: take(object, maps::NETNS)?,
            places: take(object, maps::PLACES)?,
            services: take(object, maps::SERVICES)?,
            backends: take(object, maps::BACKENDS)?,
            policies: take(object, maps::POLICIES)?,
            rules: take(object, maps::RULES)?,
            node_addresses: take(object, maps::NODE_ADDRESSES)?,
            steer_interfaces: take(object, maps::STEER_INTERFACES)?,
            listen: take(object, maps::LISTEN)?,
            counts: take(object, maps::COUNTS)?,
            events: Some(take(object, maps::EVENTS)?),
        })
    }

    pub(crate) fn config(&self) -> Result<Config, KernelError> {
        Ok(self.config.get(&0, 0).map_err(failed(maps::CONFIG))?.0)
    }

    pub(crate) fn set_config(&mut self, config: Config) -> Result<(), KernelError> {
        self.config.set(0, Raw(config), 0).map_err(failed(maps::CONFIG))
    }

    /// Everything that plans are made of.
    pub(crate) fn state(&self) -> Result<State, KernelError> {
        Ok(State {
            pods: read(&self.pods, maps::PODS)?,
            netns: read(&self.netns, maps::NETNS)?,
            places: self.read_places()?,
            services: read(&self.services, maps::SERVICES)?,
            sets: self.read_sets()?,
            policies: read(&self.policies, maps::POLICIES)?,
            node_addresses: read(&self.node_addresses, maps::NODE_ADDRESSES)?,
        })
    }

    fn read_places(&self) -> Result<BTreeMap<(u32, Addr), PlaceRecord>, KernelError> {
        self.places
            .iter()
            .map(|entry| entry.map(|(key, value)| ((key.prefix_len(), key.data().0), value.0)))
            .collect::<Result<_, _>>()
            .map_err(failed(maps::PLACES))
    }

    /// Sets with all their columns in order; a set that an interrupted write left with holes shows
    /// zero columns there, equals no wanted set, and so is written anew.
    fn read_sets(&self) -> Result<BTreeMap<u32, Vec<BackendRecord>>, KernelError> {
        let mut sets: BTreeMap<u32, Vec<BackendRecord>> = BTreeMap::new();
        for (key, record) in read(&self.backends, maps::BACKENDS)? {
            let set = sets.entry(key.set).or_default();
            let index = key.index as usize;
            if set.len() <= index {
                set.resize(index + 1, BackendRecord::default());
            }
            set[index] = record;
        }
        Ok(sets)
    }

    pub(crate) fn set_places(&mut self, change: &Change<(u32, Addr), PlaceRecord>) -> Result<(), KernelError> {
        for ((bits, address), place) in &change.set {
            let key = Key::new(*bits, Raw(*address));
            self.places.insert(&key, Raw(*place), 0).map_err(failed(maps::PLACES))?;
        }
        Ok(())
    }

    pub(crate) fn remove_places(&mut self, change: &Change<(u32, Addr), PlaceRecord>) -> Result<(), KernelError> {
        for (bits, address) in &change.remove {
            let key = Key::new(*bits, Raw(*address));
            self.places.remove(&key).or_else(absent).map_err(failed(maps::PLACES))?;
        }
        Ok(())
    }

    pub(crate) fn set_sets(&mut self, change: &Change<u32, Vec<BackendRecord>>) -> Result<(), KernelError> {
        for (set, columns) in &change.set {
            for (index, column) in (0u32..).zip(columns) {
                let key = Raw(BackendKey { set: *set, index });
                self.backends.insert(key, Raw(*column), 0).map_err(failed(maps::BACKENDS))?;
            }
        }
        Ok(())
    }

    pub(crate) fn remove_sets(
        &mut self,
        change: &Change<u32, Vec<BackendRecord>>,
        before: &State,
    ) -> Result<(), KernelError> {
        for set in &change.remove {
            let columns = before.sets.get(set).map_or(0, Vec::len) as u32;
            for index in 0..columns {
                let key = Raw(BackendKey { set: *set, index });
                self.backends.remove(&key).or_else(absent).map_err(failed(maps::BACKENDS))?;
            }
        }
        Ok(())
    }

    /// Sums over processors, in the order of [`Reason::ALL`].
    pub(crate) fn counts(&self) -> Result<Vec<(Reason, Count)>, KernelError> {
        Reason::ALL
            .iter()
            .map(|reason| {
                let values = self.counts.get(&(*reason as u32), 0).map_err(failed(maps::COUNTS))?;
                Ok((*reason, total(values.iter())))
            })
            .collect()
    }

    /// The greatest number in the maps of places and policies.
    pub(crate) fn last_number(&self) -> Result<u32, KernelError> {
        let places = self.read_places()?.into_values().flat_map(|place| [place.source, place.guard, place.mtls]);
        let policies = read(&self.policies, maps::POLICIES)?.into_iter();
        let policies = policies.flat_map(|(key, record)| [key.source, key.guard, record.rule]);
        Ok(places.chain(policies).filter(|number| *number != SOURCE_ANY).max().unwrap_or(0))
    }

    /// Sums over processors by the numbers of rules.
    pub(crate) fn rule_counts(&self) -> Result<BTreeMap<u32, Count>, KernelError> {
        let rules = self.rules.iter().map(|entry| entry.map(|(rule, values)| (rule, total(values.iter()))));
        rules.collect::<Result<_, _>>().map_err(failed(maps::RULES))
    }

    /// Forgets what was counted of rules that are no more.
    pub(crate) fn forget_rules(&mut self, is_known: impl Fn(u32) -> bool) -> Result<(), KernelError> {
        let gone: Vec<u32> = self.rules.keys().filter_map(Result::ok).filter(|rule| !is_known(*rule)).collect();
        gone.iter().try_for_each(|rule| self.rules.remove(rule).or_else(absent)).map_err(failed(maps::RULES))
    }
}

fn total<'v>(values: impl Iterator<Item = &'v Raw<Count>>) -> Count {
    values.fold(Count::default(), |sum, Raw(one)| Count {
        packets: sum.packets.wrapping_add(one.packets),
        bytes: sum.bytes.wrapping_add(one.bytes),
    })
}

/// Removing what is not there is what was wanted.
fn absent(error: MapError) -> Result<(), MapError> {
    match &error {
        MapError::KeyNotFound => Ok(()),
        MapError::SyscallError(call) if call.io_error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        _ => Err(error),
    }
}

fn read<K, V>(map: &Hash<K, V>, name: &'static str) -> Result<BTreeMap<K, V>, KernelError>
where
    K: weir_ebpf_common::Plain + Ord,
    V: weir_ebpf_common::Plain,
{
    map.iter()
        .map(|entry| entry.map(|(Raw(key), Raw(value))| (key, value)))
        .collect::<Result<_, _>>()
        .map_err(failed(name))
}

/// Writes new and changed entries.
pub(crate) fn set<K, V>(map: &mut Hash<K, V>, change: &Change<K, V>, name: &'static str) -> Result<(), KernelError>
where
    K: weir_ebpf_common::Plain,
    V: weir_ebpf_common::Plain,
{
    for (key, value) in &change.set {
        map.insert(Raw(*key), Raw(*value), 0).map_err(failed(name))?;
    }
    Ok(())
}

/// Removes entries.
pub(crate) fn remove<K, V>(map: &mut Hash<K, V>, change: &Change<K, V>, name: &'static str) -> Result<(), KernelError>
where
    K: weir_ebpf_common::Plain,
    V: weir_ebpf_common::Plain,
{
    for key in &change.remove {
        map.remove(&Raw(*key)).or_else(absent).map_err(failed(name))?;
    }
    Ok(())
}
