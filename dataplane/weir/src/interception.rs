//! What a snapshot and the pods on this node mean for the kernel: the wiring between revisions, pods and eBPF.

mod desired;
#[cfg(test)]
mod verdicts;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use weir_admin::{KernelCount, KernelView, PodView, RuleCount};
use weir_core::authorization::table::{Numbers, Table};
use weir_core::authorization::{Principal, RuleName, Verdict};
use weir_core::revision::RevisionId;
use weir_core::snapshot::Snapshot;
use weir_core::workload::{Enrolment, Workload};
use weir_kernel::pods::{PodLink, PodLinks};
use weir_kernel::{Desired, DropRecord, FailMode, IfIndex, Kernel, KernelError, ServiceAction, ServiceAddr};
use weir_revisions::{Interception, KernelPlan};

use desired::{Sightings, services, union};

type Services = BTreeMap<ServiceAddr, ServiceAction>;
type Workloads = HashMap<IpAddr, Arc<Workload>>;

/// The kernel part, with everything that decides what it does. Clones are handles to the same.
#[derive(Clone)]
pub(crate) struct Wiring(Arc<Mutex<State>>);

struct State {
    /// None once it was detached, or let go.
    kernel: Option<Kernel>,
    /// Whether plain services are balanced when a pod connects.
    balances: bool,
    /// The node's name, if it makes tunnels.
    node: Option<Arc<str>>,
    /// Set while an orderly stop empties the proxy: new connections go past it.
    passes_by: bool,
    links: PodLinks,
    sightings: Sightings,
    numbers: Numbers,
    /// Who may reach what: what is in force.
    table: Table,
    /// What is in force soon, and of which revision it is. While it is staged, what guards answer of both is there.
    staged: Option<(RevisionId, Table)>,
    services: Services,
    /// None before the first revision.
    workloads: Option<Workloads>,
    /// Links of enrolled pods that cannot be intercepted, and of which that was said.
    told: BTreeSet<IfIndex>,
}

/// The pods that a dropped flow concerns; none where an address is not a pod's.
pub(crate) struct Ends {
    pub(crate) source: Option<String>,
    pub(crate) destination: Option<String>,
    /// Whose link it was dropped at. Of a forged source it tells who forged it.
    pub(crate) link: Option<String>,
    /// What of policies says so.
    pub(crate) rule: Option<RuleName>,
}

impl Wiring {
    /// Wires a kernel part; `balances` says whether it has the connect hooks, `links` which pods there are. They are
    /// needed at once: what an earlier process attached to them must stay when the first revision is applied.
    pub(crate) fn new(
        kernel: Kernel,
        balances: bool,
        node: Option<Arc<str>>,
        links: PodLinks,
    ) -> Result<Self, KernelError> {
        let mut state = State {
            numbers: Numbers::after(kernel.last_number()?),
            kernel: Some(kernel),
            balances,
            node,
            passes_by: false,
            links: PodLinks::default(),
            sightings: Sightings::default(),
            table: Table::default(),
            staged: None,
            services: Services::new(),
            workloads: None,
            told: BTreeSet::new(),
        };
        state.see(links);
        Ok(Self(Arc::new(Mutex::new(state))))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something with the kernel part, if it is still there.
    pub(crate) fn with_kernel<T>(&self, action: impl FnOnce(&mut Kernel) -> T) -> Option<T> {
        self.state().kernel.as_mut().map(action)
    }

    /// Takes in which pods there are now.
    pub(crate) fn set_links(&self, links: PodLinks) -> Result<(), KernelError> {
        let mut state = self.state();
        state.see(links);
        state.refresh()?;
        state.apply_published()
    }

    /// Applies what is in force again: repairs what somebody else changed.
    pub(crate) fn repair(&self) -> Result<(), KernelError> {
        let mut state = self.state();
        state.refresh()?;
        state.apply_published()
    }

    /// Touches the kernel no more, and leaves it as it is: another process has it.
    pub(crate) fn let_go(&self) {
        self.state().kernel = None;
    }

    /// Has a kernel part again, after [`Wiring::let_go`].
    pub(crate) fn take(&self, kernel: Kernel, links: PodLinks) -> Result<(), KernelError> {
        let mut state = self.state();
        state.numbers.skip(kernel.last_number()?);
        state.kernel = Some(kernel);
        state.see(links);
        Ok(())
    }

    /// From now on new connections go past the proxy, so that it can empty.
    pub(crate) fn pass_by(&self) -> Result<(), KernelError> {
        let mut state = self.state();
        state.passes_by = true;
        state.apply_published()
    }

    /// Who is at the ends of a flow that was dropped, as far as documents tell.
    pub(crate) fn ends(&self, record: &DropRecord) -> Ends {
        let state = self.state();
        let name = |ip: IpAddr| state.workloads.as_ref()?.get(&ip).map(|w| format!("{}/{}", w.namespace, w.name));
        let mut links = state.links.pods.iter();
        let link = links.find(|link| link.ifindex.0 == record.ifindex);
        Ends {
            source: name(record.source.ip()),
            destination: name(record.destination.ip()),
            link: link.and_then(|link| link.addresses.iter().find_map(|ip| name(*ip))),
            rule: state.table.rulings.get(&record.rule).map(|(_, ruling)| ruling.name.clone()),
        }
    }

    /// Who runs on this node, as its links show: for them it may speak.
    pub(crate) fn principals(&self) -> BTreeSet<Principal> {
        let state = self.state();
        let (Some(workloads), Some(node)) = (&state.workloads, &state.node) else { return BTreeSet::new() };
        let at = |link: &PodLink| state.sightings.addresses(link)?.iter().find_map(|ip| workloads.get(ip));
        let own = state.links.pods.iter().filter_map(at);
        let own = own.filter(|one| one.enrolment == Enrolment::Enrolled && !one.is_elsewhere(node));
        own.map(|workload| workload.principal.clone()).collect()
    }

    /// Removes everything from the kernel.
    pub(crate) fn detach(&self) -> Result<(), KernelError> {
        let kernel = self.state().kernel.take();
        kernel.map_or(Ok(()), Kernel::detach)
    }
}

impl State {
    fn see(&mut self, links: PodLinks) {
        self.sightings.update(&links);
        self.links = links;
    }

    fn refresh(&mut self) -> Result<(), KernelError> {
        let restored = self.kernel.as_mut().map_or(Ok(0), Kernel::refresh)?;
        if restored > 0 {
            tracing::warn!(restored, "the node's network had changed; rules, routes and programs follow it");
        }
        Ok(())
    }

    fn apply_published(&mut self) -> Result<(), KernelError> {
        // Before the first revision there is nothing to apply, and what an earlier process left must stay.
        let Some(workloads) = self.workloads.take() else { return Ok(()) };
        let applied = self.apply(self.services.clone(), &workloads);
        self.workloads = Some(workloads);
        self.tell_of_pods_beside();
        applied.map(drop)
    }

    /// Pods that documents know and whose link is no port of the bridge.
    fn pods_beside(&self) -> impl Iterator<Item = (&PodLink, &Workload)> {
        let workload = |link: &PodLink| link.addresses.iter().find_map(|ip| self.workloads.as_ref()?.get(ip));
        self.links.beside.iter().filter_map(move |link| Some((link, &**workload(link)?)))
    }

    /// Says once of each enrolled pod that cannot be intercepted that it is not.
    fn tell_of_pods_beside(&mut self) {
        let enrolled = self.pods_beside().filter(|(_, workload)| workload.enrolment == Enrolment::Enrolled);
        let now: BTreeMap<IfIndex, (String, String)> = enrolled
            .map(|(link, workload)| {
                (link.ifindex, (format!("{}/{}", workload.namespace, workload.name), link.name.clone()))
            })
            .collect();
        for (_, (pod, link)) in now.iter().filter(|(index, _)| !self.told.contains(index)) {
            tracing::warn!(
                pod,
                link,
                "the pod's link is not a port of the bridge: its connections are not intercepted"
            );
        }
        self.told = now.into_keys().collect();
    }

    fn apply(&mut self, services: Services, workloads: &Workloads) -> Result<KernelPlan, KernelError> {
        let Some(kernel) = &mut self.kernel else { return Ok(KernelPlan::default()) };
        let mut pods = desired::pods(&self.links, &self.sightings, workloads, &self.table);
        if self.passes_by {
            pods.values_mut().for_each(|pod| pod.fail_mode = Some(FailMode::Open));
        }
        let mut policies = desired::policies(&self.table);
        policies.extend(self.staged.iter().flat_map(|(_, table)| desired::policies(table)));
        let places = desired::places(&self.table);
        let applied = kernel.apply(&Desired { services, pods, places, policies, ..Desired::default() })?;
        if applied.drifted > 0 {
            tracing::warn!(drifted = applied.drifted, "somebody else had changed the kernel's side; it is repaired");
        }
        Ok(KernelPlan { added: applied.added, changed: applied.changed, removed: applied.removed })
    }
}

fn workloads(snapshot: &Snapshot) -> Workloads {
    snapshot.workloads().map(|(ip, workload)| (*ip, Arc::clone(workload))).collect()
}

impl Interception for Wiring {
    fn stage(&mut self, candidate: &Snapshot) -> Result<KernelPlan, String> {
        let mut state = self.state();
        let wanted = services(candidate, state.balances, state.node.as_deref());
        let removed = state.services.keys().filter(|service| !wanted.contains_key(service)).count();
        let both = union(&state.services, wanted);
        let node = state.node.clone();
        let table = state.numbers.table(candidate, node.as_deref());
        // Pods and places stay as they are: they change with the swap.
        let in_force = state.workloads.take();
        let applied = match &in_force {
            Some(in_force) => {
                state.staged = Some((candidate.revision, table));
                state.apply(both, in_force)
            }
            None => {
                state.table = table;
                state.apply(both, &workloads(candidate))
            }
        };
        if applied.is_err() {
            state.staged = None;
        }
        state.workloads = in_force;
        applied.map(|plan| KernelPlan { removed, ..plan }).map_err(|error| error.to_string())
    }

    fn settle(&mut self, published: &Snapshot) -> Result<(), String> {
        let mut state = self.state();
        state.services = services(published, state.balances, state.node.as_deref());
        state.table = match state.staged.take() {
            Some((revision, table)) if revision == published.revision => table,
            _ => {
                let node = state.node.clone();
                state.numbers.table(published, node.as_deref())
            }
        };
        state.workloads = Some(workloads(published));
        state.apply_published().map_err(|error| error.to_string())
    }
}

impl KernelView for Wiring {
    fn counts(&self) -> Vec<KernelCount> {
        let counts = self.with_kernel(|kernel| kernel.counters());
        let counts = counts.and_then(|counts| {
            counts.inspect_err(|error| tracing::warn!(%error, "the kernel's counters cannot be read")).ok()
        });
        let row = |(reason, count): (weir_kernel::Reason, weir_kernel::Count)| KernelCount {
            reason: reason.name(),
            packets: count.packets,
            bytes: count.bytes,
        };
        counts.unwrap_or_default().into_iter().map(row).collect()
    }

    fn pods(&self) -> Vec<PodView> {
        let state = self.state();
        let view = |link: &PodLink| {
            let workload = link.addresses.iter().find_map(|ip| state.workloads.as_ref()?.get(ip));
            let netns = link.netns.file_name().map(|name| name.to_string_lossy().into_owned());
            PodView {
                name: workload.map_or_else(|| netns.unwrap_or_default(), |w| format!("{}/{}", w.namespace, w.name)),
                addresses: link.addresses.iter().copied().collect(),
                ifindex: link.ifindex.0,
                enrolled: workload.is_none_or(|workload| workload.enrolment == Enrolment::Enrolled),
            }
        };
        let beside = state.pods_beside().map(|(link, _)| PodView { enrolled: false, ..view(link) });
        state.links.pods.iter().map(view).chain(beside).collect()
    }

    fn rules(&self) -> Vec<RuleCount> {
        let state = self.state();
        let counts = state.kernel.as_ref().and_then(|kernel| {
            let counts = kernel.rule_counters();
            counts.inspect_err(|error| tracing::warn!(%error, "what rules have denied cannot be read")).ok()
        });
        let count = |(number, count): (u32, weir_kernel::Count)| {
            let (verdict, ruling) = state.table.rulings.get(&number)?;
            let is_denied = *verdict == Verdict::Deny;
            Some(RuleCount { rule: ruling.name.clone(), is_denied, packets: count.packets })
        };
        counts.unwrap_or_default().into_iter().filter_map(count).collect()
    }
}

/// A node without interception.
pub(crate) struct NoKernel;

impl KernelView for NoKernel {
    fn rules(&self) -> Vec<RuleCount> {
        Vec::new()
    }

    fn counts(&self) -> Vec<KernelCount> {
        Vec::new()
    }

    fn pods(&self) -> Vec<PodView> {
        Vec::new()
    }
}
