//! The lab as its owner holds it: built whole or not at all, removed when dropped.

use std::io;
use std::ops::Deref;
use std::process::{Child, Command};

use crate::launch::Launcher;
use crate::layout::{Layout, Pod};
use crate::registry::{self, Record, RunningLab};
use crate::signal::Change;
use crate::spec::{PodSpec, Spec};
use crate::{LabError, assemble, cgroup, plan, sysctl, teardown, tool};

/// A lab that this process owns. Dereferences to its [`Layout`], as a guard does to what it
/// guards; dropping it kills what runs inside and removes everything.
#[derive(Debug)]
pub struct Lab {
    layout: Layout,
    launcher: Launcher,
    claim: Claim,
}

/// The lab's id and everything that bears it.
#[derive(Debug)]
struct Claim {
    record: Record,
    released: bool,
}

impl Lab {
    /// Builds a lab. When a step fails, everything built so far is removed again.
    ///
    /// # Errors
    /// When something that a lab needs is missing on this machine, the spec contradicts
    /// itself, or its id is in use; the message says what to do.
    pub fn build(spec: &Spec) -> Result<Self, LabError> {
        spec.check()?;
        check_machine(spec)?;
        let _change = Change::begin();
        let cgroup_root = cgroup::root()?;
        let id = spec.id.clone().unwrap_or_else(registry::pick_free_id);
        let claim = Claim { record: registry::claim(&id)?, released: false };
        let random = || (registry::random() & u64::from(u32::MAX)) as u32;
        let mut layout = plan::layout(&id, spec, &cgroup_root, random);
        assemble::assemble(&mut layout)?;
        layout.tune(spec.tuning)?;
        if !spec.kube_proxy.is_empty() {
            layout.set_kube_proxy(&spec.kube_proxy)?;
        }
        for (key, value) in &spec.sysctls {
            layout.set_sysctl("node", key, value)?;
        }
        let launcher = Launcher::start().map_err(LabError::io("start a thread"))?;
        let mut lab = Self { layout, launcher, claim };
        lab.announce()?;
        Ok(lab)
    }

    /// A lab that another process runs, see [`RunningLab::find`].
    ///
    /// # Errors
    /// When there is none, or several and no id was given.
    pub fn find(id: Option<&str>) -> Result<RunningLab, LabError> {
        RunningLab::find(id)
    }

    /// Names and addresses, for those who must not hold the lab itself.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Starts a command from a thread that lives as long as the lab, so that a child made by
    /// [`Layout::command`] ends with the lab and not with the calling thread.
    ///
    /// # Errors
    /// What `Command::spawn` says.
    pub fn spawn(&self, command: Command) -> io::Result<Child> {
        self.launcher.spawn(command)
    }

    /// Tells other processes something about this lab, see [`RunningLab::note`].
    ///
    /// # Errors
    /// When the record cannot be written.
    pub fn note(&mut self, key: &str, value: &str) -> Result<(), LabError> {
        self.claim.record.notes.insert(key.to_owned(), value.to_owned());
        self.announce()
    }

    /// Adds a pod while the lab runs.
    ///
    /// # Errors
    /// As [`Lab::build`]; a half built pod is removed again.
    pub fn add_pod(&mut self, spec: &PodSpec) -> Result<&Pod, LabError> {
        let _change = Change::begin();
        let mut pods: Vec<_> = self.layout.pods.iter().map(|p| p.spec.clone()).collect();
        pods.push(spec.clone());
        Spec { pods, remote: self.layout.remote.is_some(), ..Spec::default() }.check()?;
        let random = (registry::random() & u64::from(u32::MAX)) as u32;
        let mut pod = plan::place_pod(&self.layout, spec, random);
        if let Err(e) = assemble::add_pod(&self.layout, &mut pod) {
            dismantle(&pod)?;
            return Err(e);
        }
        self.layout.pods.push(pod);
        self.announce()?;
        self.layout.pod(&spec.name)
    }

    /// Kills a pod's processes and removes it while the lab runs, as the node would see it.
    ///
    /// # Errors
    /// When there is no such pod or something of it resists.
    pub fn remove_pod(&mut self, name: &str) -> Result<(), LabError> {
        let _change = Change::begin();
        dismantle(self.layout.pod(name)?)?;
        self.layout.pods.retain(|pod| pod.spec.name != name);
        self.announce()
    }

    /// Removes the lab and says what could not be removed, which dropping can only print.
    ///
    /// # Errors
    /// [`LabError::Leftovers`].
    pub fn remove(mut self) -> Result<(), LabError> {
        let _change = Change::begin();
        self.claim.release()
    }

    fn announce(&mut self) -> Result<(), LabError> {
        self.claim.record.layout = Some(self.layout.clone());
        registry::update(&self.claim.record)
    }
}

impl Deref for Lab {
    type Target = Layout;

    fn deref(&self) -> &Layout {
        &self.layout
    }
}

impl AsRef<Layout> for Lab {
    fn as_ref(&self) -> &Layout {
        &self.layout
    }
}

impl Claim {
    fn release(&mut self) -> Result<(), LabError> {
        self.released = true;
        teardown::remove(&self.record.id)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if self.released {
            return;
        }
        let _change = Change::begin();
        if let Err(e) = self.release() {
            #[expect(clippy::print_stderr, reason = "a destructor has no other way to tell")]
            {
                eprintln!("weir-lab: the lab {} was not removed: {e}", self.record.id);
            }
        }
    }
}

fn dismantle(pod: &Pod) -> Result<(), LabError> {
    let groups = cgroup::remove(&pod.namespace.cgroup);
    let exists = pod.namespace.path.exists();
    let names = if exists { vec![pod.namespace.name.clone()] } else { Vec::new() };
    teardown::remove_namespaces(&names).and(groups)
}

fn check_machine(spec: &Spec) -> Result<(), LabError> {
    if !nix::unistd::geteuid().is_root() {
        return Err(LabError::NotRoot);
    }
    tool::require("ip")?;
    if !spec.kube_proxy.is_empty() {
        tool::require("nft")?;
    }
    if spec.ipv6 && !sysctl::has_ipv6() {
        return Err(LabError::NoIpv6);
    }
    Ok(())
}
