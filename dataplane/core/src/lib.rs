//! What decides: model, route matching, balancing, revisions and their differences. No async, no I/O, no clock, no randomness.
