//! What people write: one module per kind, errors with file, line and field, compiled to the model of weir-core.
//!
//! Two steps, each of which reports everything that is wrong at once:
//!
//! 1. [`parse`] (or a [`ParseCache`], which parses what has changed) reads files and checks each document by itself.
//! 2. [`compile`] (or a [`Compiler`], which compiles what has changed) resolves names among documents and makes a
//!    `Snapshot`. Warnings do not prevent one, errors do.
//!
//! The crate reads no file and watches nothing; what is read is not trusted and bounded by [`limits`].
//!
//! # Kinds
//! `Service` (v1), `EndpointSlice` (discovery.k8s.io/v1), `Pod` (v1), `Namespace` (v1), `RouteRule` (weir.dev/v1, and
//! gateway.example.com/v1 for the same), `HTTPRoute` (gateway.networking.k8s.io/v1, and v1beta1 for the same), `GRPCRoute`
//! (v1, and v1alpha2 for the same), `Gateway` and `ReferenceGrant`, `BackendTrafficPolicy` and `Plugin` (weir.dev/v1),
//! `AuthorizationPolicy` (weir.dev/v1, and security.istio.io for the same), and `List` (v1) of them. Every other kind is an
//! error. Unknown fields are errors in the specs of those that have rules, policies and plugins, and passed over in the
//! others, which carry many that only a cluster needs.
//!
//! A pod belongs to the mesh unless its annotation `weir.dev/mesh` says `disabled`, or it has none and the label of that
//! name of its `Namespace` says so. Whether connections to it that no policy allows are denied says the label
//! `weir.dev/authorization` of its `Namespace`, else whether that is enrolled by the other. Pods in the host's network and pods that have ended have no address of their own and
//! are no source of requests.
//!
//! # What counts as equal
//! A revision's id is made from the canonical form of its documents ([`Document::canonical`]): JSON with sorted keys, of
//! the fields that Weir reads and nothing else. Equal, and so no new revision, are documents that differ
//!
//! - in the order of keys, in comments, quoting, anchors, YAML or JSON, in which file they are and where;
//! - in fields that are null, an empty object or an empty list, and in a default that is written (`namespace: default`,
//!   `priority: 0`, `weight: 1`, `percentage: 100`, `protocol: TCP`, `ready: true`, and those of `HTTPRoute`'s API);
//! - in a text for `{exact: text}` or `{name: service}`, one thing for a list with only it (`match`, `method`, `mirror`),
//!   the case of names of headers, `gateway.example.com/v1` for `weir.dev/v1`;
//! - of the kinds of Kubernetes: in annotations other than `weir.dev/...`, in the order of endpoints, and in fields that
//!   Weir does not read.
//!
//! Different are: the order of other lists, `destination` against `destinations` with one element, a host with and
//! without its namespace, and a duration in other units (`60s`, `1m`).

mod canonical;
mod check;
mod compile;
mod decode;
mod diagnostic;
mod document;
mod index;
mod kinds;
pub mod limits;
mod parse;
mod place;
mod references;
mod shape;
mod text;
mod wording;

pub use compile::{Compiled, Compiler, compile};
pub use diagnostic::{Diagnostic, Severity};
pub use document::{Document, DocumentSet, Origin};
pub use parse::{ParseCache, Parsed, SourceFile, from_canonical, parse};
