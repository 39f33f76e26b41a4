//! The graph of a difference: what changed, and what is connected to it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::ChangeLog;
use crate::name::ObjectName;

/// Nodes kept in one graph. The first configuration of a node is all additions; beyond this nobody reads a graph.
const MAX_NODES: usize = 2_000;

/// References kept in one graph.
const MAX_EDGES: usize = 10_000;

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
    /// is concerned when an endpoint of its destination goes. `references` are those of both configurations together,
    /// so that a reference that went with the change is seen; `exists` says whether either has a document.
    pub fn of(
        log: &ChangeLog,
        references: impl IntoIterator<Item = Edge>,
        exists: impl Fn(&ObjectName) -> bool,
    ) -> Self {
        let edges: BTreeSet<Edge> = references.into_iter().collect();
        let mut nodes: BTreeMap<&ObjectName, NodeChange> = BTreeMap::new();
        nodes.extend(log.added.iter().map(|object| (object, NodeChange::Added)));
        nodes.extend(log.removed.iter().map(|object| (object, NodeChange::Removed)));
        nodes.extend(log.changed.iter().map(|changed| (&changed.object, NodeChange::Changed)));
        let around = surroundings(&edges, &nodes.keys().copied().collect());
        for object in around {
            let change = if exists(object) { NodeChange::Affected } else { NodeChange::Missing };
            nodes.entry(object).or_insert(change);
        }
        let more = nodes.len().saturating_sub(MAX_NODES);
        let kept = keep_most_telling(nodes);
        let edges = edges.iter().filter(|edge| kept.contains_key(&edge.from) && kept.contains_key(&edge.to));
        let mut edges: Vec<Edge> = edges.cloned().collect();
        let more_edges = edges.len().saturating_sub(MAX_EDGES);
        edges.truncate(MAX_EDGES);
        let node = |(object, change): (&ObjectName, NodeChange)| Node { object: object.clone(), change };
        Self { nodes: kept.into_iter().map(node).collect(), edges, more, more_edges }
    }

    /// How an object is concerned, if it is.
    pub fn change(&self, object: &ObjectName) -> Option<NodeChange> {
        let at = self.nodes.binary_search_by(|node| node.object.cmp(object)).ok()?;
        Some(self.nodes[at].change)
    }
}

fn surroundings<'a>(edges: &'a BTreeSet<Edge>, changed: &BTreeSet<&'a ObjectName>) -> BTreeSet<&'a ObjectName> {
    let mut referrers: BTreeMap<&ObjectName, Vec<&ObjectName>> = BTreeMap::new();
    let mut around = BTreeSet::new();
    let mut todo: Vec<&ObjectName> = changed.iter().copied().collect();
    for edge in edges {
        referrers.entry(&edge.to).or_default().push(&edge.from);
        if changed.contains(&edge.from) {
            around.insert(&edge.to);
            if &*edge.from.kind == PART {
                todo.push(&edge.to);
            }
        }
    }
    let mut seen: BTreeSet<&ObjectName> = todo.iter().copied().collect();
    while let Some(object) = todo.pop() {
        for referrer in referrers.get(object).into_iter().flatten() {
            if seen.insert(referrer) {
                around.insert(referrer);
                todo.push(referrer);
            }
        }
    }
    around
}

/// At most [`MAX_NODES`], those that changed before those that are merely concerned.
fn keep_most_telling(nodes: BTreeMap<&ObjectName, NodeChange>) -> BTreeMap<&ObjectName, NodeChange> {
    if nodes.len() <= MAX_NODES {
        return nodes;
    }
    let (mut kept, around): (Vec<_>, Vec<_>) =
        nodes.into_iter().partition(|(_, change)| *change < NodeChange::Affected);
    kept.extend(around);
    kept.truncate(MAX_NODES);
    kept.into_iter().collect()
}
