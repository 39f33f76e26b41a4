//! `weir plugin bench`: what a module costs on this machine.

use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::Bytes;
use http::{Request, Response};
use serde_json::json;
use weir_core::plugin::Limits;
use weir_plugin_host::{Denied, Engine, Module, Nowhere, Options, Plugin, Scopes, Vm};

use super::trial::{Message, Services, exchange};
use crate::Output;
use crate::command::table::{Cell, Table};
use crate::command::{print, print_json};

/// Instances at a time.
const INSTANCES: usize = 64;

/// Times that things are measured; the middle one counts.
const ROUNDS: usize = 9;

#[derive(Debug, clap::Args)]
pub(crate) struct Bench {
    /// The module
    file: PathBuf,
    /// What it is configured with
    #[arg(long, default_value = "")]
    configuration: String,
    /// Requests in each round
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    requests: u32,
    /// Bytes of the bodies of requests and responses
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=1_048_576))]
    body: u32,
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// What was measured.
struct Measured {
    compile: Duration,
    load: Duration,
    make: Duration,
    start: Duration,
    memory: u64,
    linear: u64,
    exchange: Duration,
    callback: Duration,
}

impl Bench {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let name = || self.file.display().to_string();
        let bytes = std::fs::read(&self.file).with_context(name)?;
        let measured = self.measure(&bytes).with_context(name)?;
        let Measured { compile, load, make, start, memory, linear, exchange, callback } = measured;
        match self.output {
            Output::Json => print_json(&json!({
                "compile_ms": compile.as_secs_f64() * 1e3,
                "load_from_cache_ms": load.as_secs_f64() * 1e3,
                "make_us": make.as_secs_f64() * 1e6,
                "start_us": start.as_secs_f64() * 1e6,
                "instance_bytes": memory,
                "linear_memory_bytes": linear,
                "exchange_us": exchange.as_secs_f64() * 1e6,
                "callback_ns": callback.as_secs_f64() * 1e9,
            })),
            Output::Text => {
                let mut table = Table::default();
                let mut row = |what: &str, value: String| table.row([Cell::from(what), Cell::right(&value)]);
                row("compile", format!("{:.1} ms", compile.as_secs_f64() * 1e3));
                row("load what was compiled before", format!("{:.2} ms", load.as_secs_f64() * 1e3));
                row("make an instance", format!("{:.1} us", make.as_secs_f64() * 1e6));
                row("make, start and configure it", format!("{:.1} us", start.as_secs_f64() * 1e6));
                row("memory of an instance", format!("{} KiB", memory >> 10));
                row("its linear memory", format!("{} KiB", linear >> 10));
                row("a request and its response", format!("{:.2} us", exchange.as_secs_f64() * 1e6));
                row("one callback of it", format!("{:.0} ns", callback.as_secs_f64() * 1e9));
                print(&table.to_string())
            }
        }
    }

    fn measure(&self, bytes: &[u8]) -> anyhow::Result<Measured> {
        let engine = Engine::new()?;
        let folder = std::env::temp_dir().join(format!("weir-bench-{}", std::process::id()));
        let _removed = Removed(folder.clone());
        let cached = || Module::compile_cached(&engine, bytes, &folder);
        let compile = cached()?.origin().took;
        let loads: Result<Vec<_>, _> = (0..ROUNDS).map(|_| cached().map(|module| module.origin().took)).collect();
        let module = cached()?;
        anyhow::ensure!(module.origin().is_cached, "what was compiled is not kept");
        let plugin = self.plugin(&module);
        let start = || Vm::start(&plugin, Rc::new(Nowhere));
        drop(start()?);
        let (mut makes, mut starts, mut memory) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let (before, began) = (resident(), Instant::now());
            let all: Vec<_> = (0..INSTANCES).map(|_| start()).collect::<Result<_, _>>()?;
            starts.push(began.elapsed() / INSTANCES as u32);
            makes.extend(all.iter().filter_map(|vm| vm.made_in()));
            memory.push(resident().saturating_sub(before) / INSTANCES as u64);
            drop(all);
        }
        let plugin = self.plugin(&module);
        let services = Rc::new(Services::default());
        let vm = Vm::start(&plugin, Rc::clone(&services) as Rc<dyn weir_plugin_host::Environment>)?;
        let (mut exchanges, mut callbacks) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let before = plugin.totals();
            let began = Instant::now();
            for _ in 0..self.requests {
                let outcome = exchange(&vm, &services, self.request()?, self.response()?);
                anyhow::ensure!(outcome.end != Some("fails"), "it fails");
            }
            exchanges.push(began.elapsed() / self.requests);
            let after = plugin.totals();
            let calls = u32::try_from(after.calls - before.calls).unwrap_or(u32::MAX).max(1);
            callbacks.push((after.time - before.time) / calls);
        }
        Ok(Measured {
            compile,
            load: middle(loads?),
            make: middle(makes),
            start: middle(starts),
            memory: middle(memory),
            linear: plugin.totals().memory,
            exchange: middle(exchanges),
            callback: middle(callbacks),
        })
    }

    fn plugin(&self, module: &Module) -> Arc<Plugin> {
        let options = Options {
            name: "default/bench".into(),
            root_id: "".into(),
            vm_id: "bench".into(),
            vm_configuration: Bytes::new(),
            configuration: Bytes::copy_from_slice(self.configuration.as_bytes()),
            environment: Box::default(),
            limits: Limits::default(),
            denied: Denied::default(),
            upstreams: None,
        };
        Plugin::new(module.clone(), options, &Scopes::default())
    }

    fn request(&self) -> anyhow::Result<Message<http::request::Parts>> {
        let names =
            ["accept", "accept-encoding", "user-agent", "cookie", "x-request-id", "x-forwarded-for", "x-a", "x-b"];
        let request = Request::get("/path?query=1").header("host", "test");
        let request = names.iter().fold(request, |request, name| request.header(*name, "a value of some length"));
        Ok(Message { head: request.body(())?.into_parts().0, body: self.bytes() })
    }

    fn response(&self) -> anyhow::Result<Message<http::response::Parts>> {
        let response = Response::builder().header("content-type", "text/plain").header("x-a", "1").body(())?;
        Ok(Message { head: response.into_parts().0, body: self.bytes() })
    }

    fn bytes(&self) -> Bytes {
        vec![b'x'; self.body as usize].into()
    }
}

fn middle<T: Ord + Copy>(mut all: Vec<T>) -> T {
    all.sort_unstable();
    all[all.len() / 2]
}

/// Bytes of memory that this process has.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = text.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or_default();
    pages * rustix::param::page_size() as u64
}

/// A folder that goes when this does.
struct Removed(PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
