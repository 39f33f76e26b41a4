//! The HTTP API of a node: versions, explain, status, health, metrics.
