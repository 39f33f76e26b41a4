//! Who may reach which workload: policies by the pods that they are for.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use weir_core::authorization::{self, Guard, Mode, RuleName, Ruling, Stance, Tally};
use weir_core::name::ObjectName;
use weir_core::revision::{DocumentHash, RevisionId};
use weir_core::workload::Enrolment;

use super::names::Names;
use crate::diagnostic::Diagnostic;
use crate::document::Document;
use crate::kinds::authorization_policy::AuthorizationPolicy;
use crate::kinds::metadata::Authorization;
use crate::place::Segment;

/// The namespace whose policies are for the workloads of all.
pub(super) const ROOT: &str = "weir-system";

/// All policies, and the guards that are made of them. What counts decisions is kept from one configuration to the next.
#[derive(Debug, Default)]
pub(super) struct Guards {
    policies: HashMap<ObjectName, (DocumentHash, Arc<authorization::Policy>)>,
    rulings: HashMap<RuleName, Arc<Ruling>>,
    guards: HashMap<Arc<str>, Arc<Guard>>,
}

impl Guards {
    /// The guard of each pod, in their order; and the guards, for the next time.
    pub(super) fn new(
        names: &Names<'_>,
        before: Option<&Self>,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> (Vec<Option<Arc<Guard>>>, Self) {
        let mut guards = Self::default();
        let mut by_namespace: BTreeMap<&str, Vec<(&Document, &AuthorizationPolicy)>> = BTreeMap::new();
        for (document, policy) in &names.authorizations {
            guards.add(document, policy, before);
            by_namespace.entry(&document.name.namespace).or_default().push((document, policy));
        }
        let mut used: HashSet<&ObjectName> = HashSet::new();
        let of_pods = names.pods.iter().map(|(name, _, pod)| {
            let of = |namespace: &str| by_namespace.get(namespace).into_iter().flatten();
            let own = of(&name.namespace).chain(of(ROOT).filter(|_| *name.namespace != *ROOT));
            let own: Vec<&Document> =
                own.filter(|(_, policy)| policy.selector.is_for(&pod.labels)).map(|(document, _)| *document).collect();
            used.extend(own.iter().map(|document| &document.name));
            guards.guard(names, name, &own, before)
        });
        let of_pods = of_pods.collect();
        for (document, policy) in &names.authorizations {
            if !policy.selector.is_empty() && !used.contains(&document.name) {
                let path = [Segment::Key("spec"), Segment::Key("selector")];
                let message = "no pod has these labels; the policy has no effect".to_owned();
                diagnostics.push(document.scope().warning(&path, message));
            }
        }
        (of_pods, guards)
    }

    fn add(&mut self, document: &Document, policy: &AuthorizationPolicy, before: Option<&Self>) {
        let known = before.and_then(|before| before.policies.get(&document.name));
        if let Some((_, known)) = known.filter(|(hash, _)| *hash == document.hash) {
            self.rulings.extend(known.rules.iter().map(|rule| (rule.ruling.name.clone(), Arc::clone(&rule.ruling))));
            self.policies.insert(document.name.clone(), (document.hash, Arc::clone(known)));
            return;
        }
        let rules = policy.rules.iter().enumerate().map(|(position, rule)| authorization::Rule {
            peers: rule.peers.clone(),
            operations: rule.operations.clone(),
            conditions: rule.conditions.clone(),
            ruling: self.ruling(RuleName::Rule(document.name.clone(), position), before),
        });
        let rules = rules.collect();
        let compiled = authorization::Policy { name: document.name.clone(), action: policy.action, rules };
        self.policies.insert(document.name.clone(), (document.hash, Arc::new(compiled)));
    }

    fn ruling(&mut self, name: RuleName, before: Option<&Self>) -> Arc<Ruling> {
        let known = self.rulings.get(&name).or_else(|| before?.rulings.get(&name)).cloned();
        let ruling = known.unwrap_or_else(|| Arc::new(Ruling { name: name.clone(), tally: Tally::default() }));
        self.rulings.insert(name, Arc::clone(&ruling));
        ruling
    }

    /// What guards a pod; none where everybody may reach it.
    fn guard(
        &mut self,
        names: &Names<'_>,
        name: &ObjectName,
        documents: &[&Document],
        before: Option<&Self>,
    ) -> Option<Arc<Guard>> {
        let namespace = names.namespace(&name.namespace);
        let is_enrolled = namespace.is_some_and(|found| found.enrolment == Some(Enrolment::Enrolled));
        let (mode, stance) = match namespace.and_then(|found| found.authorization) {
            Some(Authorization::Off) => return None,
            Some(Authorization::Enforce) => (Mode::Enforce, Stance::Deny),
            Some(Authorization::Audit) => (Mode::Audit, Stance::Deny),
            None if is_enrolled => (Mode::Enforce, Stance::Deny),
            None if documents.is_empty() => return None,
            None => (Mode::Enforce, Stance::Allow),
        };
        let id = RevisionId::of(documents.iter().map(|document| document.hash));
        let key: Arc<str> = format!("{} {mode:?} {stance:?} {id}", name.namespace).into();
        if let Some(guard) = self.guards.get(&key) {
            return Some(Arc::clone(guard));
        }
        let known = before.and_then(|before| before.guards.get(&key)).cloned();
        let guard = known.unwrap_or_else(|| {
            let unallowed = self.ruling(RuleName::Unallowed(Arc::clone(&name.namespace)), before);
            let policies = documents.iter().filter_map(|document| self.policies.get(&document.name));
            let policies = policies.map(|(_, policy)| Arc::clone(policy)).collect();
            Arc::new(Guard::new(mode, stance, policies, unallowed, Arc::clone(&key)))
        });
        self.rulings.extend(guard.rulings().map(|ruling| (ruling.name.clone(), Arc::clone(ruling))));
        self.guards.insert(key, Arc::clone(&guard));
        Some(guard)
    }
}
