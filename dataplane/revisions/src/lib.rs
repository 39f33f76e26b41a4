//! The version log, and the one place that knows the order of a change: prepare, kernel, publish, retire, record.
