//! What a plugin may use.

use std::time::Duration;

/// Bounds of one plugin. Those without another word are for each of its instances, of which every worker has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Processor time of one callback. How it is kept: [`crate::Engine`].
    pub callback: Duration,
    /// Processor time of everything from the start of an instance until it is configured.
    pub start: Duration,
    /// Bytes of linear memory.
    pub memory: usize,
    /// Bytes of a body that a plugin holds back.
    pub body: usize,
    /// Bytes of one line that it logs; what is beyond is cut off.
    pub log_line: usize,
    /// Lines that it logs in a second; what is beyond is counted.
    pub log_lines: u32,
    /// Metrics that it defines, in all instances together.
    pub metrics: usize,
    /// Bytes of what it shares (keys and values), in all instances together and with all others of its `vm_id`.
    pub shared_data: usize,
    /// Shared queues of its `vm_id`.
    pub queues: usize,
    /// Bytes that wait in each of them.
    pub queue: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            callback: Duration::from_millis(3),
            start: Duration::from_secs(1),
            memory: 32 << 20,
            body: 1 << 20,
            log_line: 4 << 10,
            log_lines: 100,
            metrics: 200,
            shared_data: 1 << 20,
            queues: 16,
            queue: 256 << 10,
        }
    }
}
