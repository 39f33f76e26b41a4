//! The closed set of events and counters; logs and metrics are derived from them.
