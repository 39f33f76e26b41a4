//! The engine: what compiles modules and runs them, one for the whole process.
//!
//! # Time
//! A callback runs on a worker's thread and is not left until it returns. So that it returns, the engine interrupts it
//! at every tick of a clock ([`crate::ticker`], 1 ms) to look at the processor time that the thread has used since the
//! first of them, and ends it when that is more than [`Limits::callback`](weir_core::plugin::Limits::callback) allows. It is
//! processor time: a node that is busy with something else is not the plugin's fault. A callback that computes for ever
//! is ended after what it may use, and two ticks more at the most.
//!
//! # Memory
//! Instances come from a pool of slots, made ready in advance: a new one costs microseconds, because its memory is a
//! copy-on-write image of the module's. Slots reserve address space, not memory. Where there is little address space (39
//! bits on many boards with ARM), the reservations are small, and accesses are compared with the memory's size instead.

use std::sync::Arc;

use wasmtime::{Config, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig};
use weir_core::plugin::MAX_MEMORY;

use crate::host;
use crate::state::{State, TABLE_ELEMENTS};
use crate::ticker::Ticker;

/// The stack of a plugin: of a worker's 1 MiB, a quarter.
const STACK_BYTES: usize = 256 << 10;

/// Instances at a time: of every plugin one in each worker, and as many again while one version takes over from another.
const SLOTS: u32 = 256;

/// How much address space a memory reserves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reservation {
    /// All that 32 bits can name: no access has to be checked.
    Wide,
    /// As much as a plugin may have.
    Narrow,
}

/// What keeps an engine from being made.
#[derive(Debug, thiserror::Error)]
#[error("plugins cannot be run on this machine: {0}")]
pub struct EngineError(String);

/// The engine. Cheap to clone.
#[derive(Clone)]
pub struct Engine {
    pub(crate) inner: wasmtime::Engine,
    pub(crate) linker: Arc<wasmtime::Linker<State>>,
    pub(crate) ticker: Arc<Ticker>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Engine")
    }
}

impl Engine {
    /// An engine with the reservations that this machine has address space for.
    ///
    /// # Errors
    /// When the machine has no room for either, or no thread for the clock.
    pub fn new() -> Result<Self, EngineError> {
        let wide = wasmtime::Engine::new(&config(Reservation::Wide));
        let inner = match wide {
            Ok(engine) => engine,
            Err(reason) => {
                tracing::info!("plugins get small reservations of address space: {reason:#}");
                wasmtime::Engine::new(&config(Reservation::Narrow))
                    .map_err(|error| EngineError(format!("{error:#}")))?
            }
        };
        let mut linker = wasmtime::Linker::new(&inner);
        host::link(&mut linker).map_err(|error| EngineError(format!("{error:#}")))?;
        let ticker = Ticker::start(&inner).map_err(|error| EngineError(error.to_string()))?;
        Ok(Self { inner, linker: Arc::new(linker), ticker: Arc::new(ticker) })
    }
}

fn config(reservation: Reservation) -> Config {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_core_instances(SLOTS)
        .total_memories(SLOTS)
        .total_tables(SLOTS)
        .max_memories_per_module(1)
        .max_tables_per_module(1)
        .table_elements(TABLE_ELEMENTS)
        .max_core_instance_size(1 << 20)
        .max_memory_size(MAX_MEMORY);
    let mut config = Config::new();
    config
        .cranelift_opt_level(OptLevel::Speed)
        .epoch_interruption(true)
        .max_wasm_stack(STACK_BYTES)
        .wasm_backtrace_max_frames(std::num::NonZeroUsize::new(20))
        .memory_init_cow(true);
    if reservation == Reservation::Narrow {
        config.memory_reservation(MAX_MEMORY as u64).memory_guard_size(64 << 10).memory_reservation_for_growth(0);
        pool.total_core_instances(SLOTS / 4).total_memories(SLOTS / 4).total_tables(SLOTS / 4);
    }
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    config
}
