//! Sockets and HTTP: accept, detect, route, upstream, mirror, drain.
