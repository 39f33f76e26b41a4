//! The graph of a difference: what changed, and what is connected to it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::ChangeLog;
use crate::name::ObjectName;

/// Nodes kept in one graph. The first configuration of a node is all additions; beyond this nobody reads a graph.
const MAX_NODES: usize = 2_000;

/// References kept in one graph.
const MAX_EDGES: usize = 10_000;

/// References looked at for one graph. Rules without `services` refer to every service of their namespace, so that the
/// number grows with the square of the documents; beyond this a graph tells nobody anything.
const MAX_REFERENCES: usize = 100_000;

/// A kind whose documents are parts of what they refer to: what concerns the part concerns the whole, and so
/// everything that refers to the whole.
const PART: &str = "EndpointSlice";

/// The objects of a difference with their surroundings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiffGraph {
    /// What changed and what that concerns, sorted by name.
    pub nodes: Vec<Node>,
    /// The references among them, sorted.
    pub edges: Vec<Edge>,
    /// How many nodes more there would be than are kept.
    #[serde(default, skip_serializing_if = "super::is_zero")]
    pub more: usize,
    /// How many references more there would be among the nodes than are kept.
    #[serde(default, skip_serializing_if = "super::is_zero")]
    pub more_edges: usize,
}

/// An object of the graph.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Which.
    pub object: ObjectName,
    /// How the difference concerns it.
    pub change: NodeChange,
}

/// How a difference concerns an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeChange {
    /// It is new.
    Added,
    /// It is gone.
    Removed,
    /// Its content is another.
    Changed,
    /// Its content is the same, but it refers to something that changed or is referred to by it.
    Affected,
    /// Something refers to it, but there is no such document.
    Missing,
}

/// A reference.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Edge {
    /// The object that refers.
    pub from: ObjectName,
    /// The object that is meant.
    pub to: ObjectName,
    /// The field that names it.
    pub field: String,
}

impl DiffGraph {
    /// The graph of a difference.
    ///
    /// It has every object of the log, what those refer to, and what refers to them, over any number of steps: a rule
    /// is concerned when an endpoint of its destination goes. When the log alone has more than can be kept, it has
    /// nothing else.
    ///
    /// Of both configurations together, so that a reference that went with the change is seen, `references` gives what an
    /// object refers to, and `referrers` what refers to any of some objects; `exists` says whether either has a document.
    pub fn of(
        log: &ChangeLog,
        references: impl Fn(&ObjectName) -> Vec<Edge>,
        referrers: impl Fn(&BTreeSet<ObjectName>) -> Vec<ObjectName>,
        exists: impl Fn(&ObjectName) -> bool,
    ) -> Self {
        let mut nodes: BTreeMap<ObjectName, NodeChange> = BTreeMap::new();
        nodes.extend(log.added.iter().map(|object| (object.clone(), NodeChange::Added)));
        nodes.extend(log.removed.iter().map(|object| (object.clone(), NodeChange::Removed)));
        nodes.extend(log.changed.iter().map(|changed| (changed.object.clone(), NodeChange::Changed)));
        if nodes.len() < MAX_NODES {
            for object in surroundings(&nodes, &references, referrers) {
                let change = if exists(&object) { NodeChange::Affected } else { NodeChange::Missing };
                nodes.entry(object).or_insert(change);
            }
        }
        let more = nodes.len().saturating_sub(MAX_NODES);
        let kept = keep_most_telling(nodes);
        let all = kept.keys().flat_map(references).take(MAX_REFERENCES);
        let edges: BTreeSet<_> = all.filter(|edge| kept.contains_key(&edge.to)).collect();
        let more_edges = edges.len().saturating_sub(MAX_EDGES);
        let edges = edges.into_iter().take(MAX_EDGES).collect();
        let node = |(object, change)| Node { object, change };
        Self { nodes: kept.into_iter().map(node).collect(), edges, more, more_edges }
    }

    /// How an object is concerned, if it is.
    pub fn change(&self, object: &ObjectName) -> Option<NodeChange> {
        let at = self.nodes.binary_search_by(|node| node.object.cmp(object)).ok()?;
        Some(self.nodes[at].change)
    }
}

/// What the changed objects refer to, and what refers to them.
fn surroundings(
    changed: &BTreeMap<ObjectName, NodeChange>,
    references: impl Fn(&ObjectName) -> Vec<Edge>,
    referrers: impl Fn(&BTreeSet<ObjectName>) -> Vec<ObjectName>,
) -> BTreeSet<ObjectName> {
    let mut around = BTreeSet::new();
    let mut seen: BTreeSet<ObjectName> = changed.keys().cloned().collect();
    for edge in changed.keys().flat_map(references).take(MAX_REFERENCES) {
        if &*edge.from.kind == PART {
            seen.insert(edge.to.clone());
        }
        around.insert(edge.to);
    }
    let mut last = seen.clone();
    while !last.is_empty() {
        last = referrers(&last).into_iter().filter(|referrer| seen.insert(referrer.clone())).collect();
        around.extend(last.iter().cloned());
    }
    around
}

/// At most [`MAX_NODES`], those that changed before those that are merely concerned.
fn keep_most_telling(nodes: BTreeMap<ObjectName, NodeChange>) -> BTreeMap<ObjectName, NodeChange> {
    if nodes.len() <= MAX_NODES {
        return nodes;
    }
    let (mut kept, around): (Vec<_>, Vec<_>) =
        nodes.into_iter().partition(|(_, change)| *change < NodeChange::Affected);
    kept.extend(around);
    kept.truncate(MAX_NODES);
    kept.into_iter().collect()
}
