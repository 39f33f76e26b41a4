//! What people write: one module per kind, errors with file, line and field, compiled to the model of weir-core.
