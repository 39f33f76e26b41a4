//! A node with pods in network namespaces: for weir lab and for the end-to-end tests.
