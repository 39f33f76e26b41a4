//! Bounds on what is read. Configuration is not trusted: a folder can be anybody's.

/// Bytes of one file. A ConfigMap or an etcd value is at most 1 to 1.5 MiB.
pub const FILE_BYTES: usize = 4 << 20;

/// Documents of a configuration: 100,000 rules with their services, slices and pods.
pub const DOCUMENTS: usize = 120_000;

/// How deep values may nest, aliases resolved. The deepest field of any kind is at 8.
pub const DEPTH: usize = 64;

/// Values that the aliases of one file may add to those that are written: what a "YAML bomb" multiplies.
pub const ALIASED_VALUES: usize = 10_000;

/// Wrong fields of one document that are reported.
pub const PROBLEMS_PER_DOCUMENT: usize = 64;

/// Diagnostics that are reported at once.
pub const DIAGNOSTICS: usize = 1_000;

/// Matches of a rule (as in the Gateway API).
pub const MATCHES: usize = 64;

/// Conditions on headers, on cookies, and on query parameters, of each kind in one match (as in the Gateway API).
pub const CONDITIONS: usize = 16;

/// Methods of a match or of a mirror.
pub const METHODS: usize = 16;

/// Parents of a route (as in the Gateway API).
pub const PARENTS: usize = 32;

/// Host names of a route (as in the Gateway API).
pub const HOSTNAMES: usize = 16;

/// Listeners of a gateway (as in the Gateway API).
pub const LISTENERS: usize = 64;

/// Certificates of a listener (as in the Gateway API).
pub const CERTIFICATES: usize = 64;

/// Addresses of a gateway (as in the Gateway API).
pub const GATEWAY_ADDRESSES: usize = 16;

/// Rules of a route (as in the Gateway API).
pub const RULES: usize = 16;

/// Filters of a rule, and of a destination (as in the Gateway API).
pub const FILTERS: usize = 16;

/// Headers that a filter sets, adds or removes, each (as in the Gateway API).
pub const CHANGED_HEADERS: usize = 16;

/// Origins, methods and headers of a CORS filter, each (as in the Gateway API).
pub const CORS_VALUES: usize = 64;

/// Services that a rule names.
pub const SERVICES: usize = 64;

/// Destinations of a rule.
pub const DESTINATIONS: usize = 32;

/// Mirrors of a rule.
pub const MIRRORS: usize = 8;

/// Tries of a request after the first.
pub const RETRIES: u32 = 10;

/// Kinds of failures, and status codes, after which a rule has requests tried again.
pub const FAILURES: usize = 32;

/// Bytes of the body of a rule's own answer.
pub const DIRECT_BYTES: usize = 65_536;

/// Requests of a rate limit in its time, and at once.
pub const RATE: u32 = 1_000_000;

/// Bytes of the name of a service of gRPC that health is asked of.
pub const GRPC_SERVICE_BYTES: usize = 127;

/// Weight of a destination.
pub const WEIGHT: i64 = 1_000_000;

/// Priority of a rule, in both directions from 0.
pub const PRIORITY: i64 = 1_000;

/// Bytes of the text of a condition (as in the Gateway API).
pub const CONDITION_BYTES: usize = 4_096;

/// Bytes of a compiled regular expression, and of its cache.
pub const REGEX_BYTES: usize = 1 << 20;

/// Bytes of a body that a plugin holds back.
pub const PLUGIN_BODY: usize = 16 << 20;

/// Bytes of a plugin's configuration.
pub const PLUGIN_CONFIGURATION: usize = 1 << 20;

/// Environment variables of a plugin.
pub const PLUGIN_ENVIRONMENT: usize = 64;

/// Ports of a service.
pub const SERVICE_PORTS: usize = 1_000;

/// Ports of an endpoint slice (as its API documents it).
pub const SLICE_PORTS: usize = 100;

/// Endpoints of an endpoint slice (as its API documents it).
pub const SLICE_ENDPOINTS: usize = 1_000;

/// Route entries of a snapshot: every match of every rule at every port that it concerns.
pub const ROUTE_ENTRIES: usize = 250_000;

/// Names of host functions, and of services that it may call, that a plugin's document lists.
pub const PLUGIN_CAPABILITIES: usize = 128;

/// Ports of a peer authentication.
pub const AUTHENTICATION_PORTS: usize = 100;

/// Rules of an authorization policy.
pub const AUTHORIZATION_RULES: usize = 10_000;

/// Sources, operations and conditions of a rule of an authorization policy, and values in each of their fields.
pub const AUTHORIZATION_VALUES: usize = 1_000;
