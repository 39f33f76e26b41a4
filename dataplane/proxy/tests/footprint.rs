//! What a connection costs in memory. In a process of its own, whose allocator counts.
#![expect(unsafe_code, reason = "an allocator is made of functions that are unsafe to call")]

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicIsize, Ordering};

use support::upstream::Upstream;
use support::world::World;
use support::{Client, Node, get, until};
use weir_telemetry::WorkerEvent;

/// Bytes that are allocated now.
static LIVE: AtomicIsize = AtomicIsize::new(0);

struct Counting;

// SAFETY: everything is left to the system's allocator; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size() as isize, Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size() as isize, Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn live() -> isize {
    LIVE.load(Ordering::Relaxed)
}

#[test]
fn connections_without_a_request_hold_little() {
    const COUNT: usize = 400;
    let endpoint = Upstream::saying("ok");
    let node = Node::start_with(World::new(&[endpoint.address]), |settings| {
        // The worker's clock ticks as often as the shortest of its times wants.
        settings.downstream.half_closed = std::time::Duration::from_millis(200);
    });
    // What is made once is made.
    assert_eq!(node.ask(&get("/", &[])).text(), "ok");
    node.await_event(WorkerEvent::Closed, 1);
    let mut clients = Vec::with_capacity(COUNT);
    let before = live();
    clients.extend((0..COUNT).map(|_| node.client()));
    node.await_event(WorkerEvent::Accepted, 1 + COUNT as u64);
    until("each to be served", || node.metric("weir_proxy_connections", "downstream") == COUNT as f64);
    let silent = (live() - before) / COUNT as isize;
    clients.iter_mut().for_each(|client: &mut Client| assert_eq!(client.ask(&get("/", &[])).text(), "ok"));
    node.await_event(WorkerEvent::Rested, COUNT as u64);
    let resting = (live() - before) / COUNT as isize;
    // Less than half of the smallest buffer that anything is read into.
    assert!(silent < 2_048 && resting < 4_096, "silent: {silent} bytes, resting: {resting} bytes");
}
