//! The user side of the eBPF programs: load, pin, attach, plan, apply, events. The only crate with aya.
