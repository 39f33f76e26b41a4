//! The config watcher: where documents come from. Yields sets of documents, nothing else.
