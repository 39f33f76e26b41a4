//! What is around the spec of a document, the same for every kind of which each field is read.

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use super::metadata::Metadata;
use crate::shape::nullable;

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase", expecting = "an object")]
#[serde(bound(deserialize = "S: Deserialize<'de> + Default"))]
pub(crate) struct Envelope<S> {
    #[serde(skip_serializing)]
    api_version: IgnoredAny,
    #[serde(skip_serializing)]
    kind: IgnoredAny,
    #[serde(deserialize_with = "nullable")]
    pub(super) metadata: Metadata,
    #[serde(deserialize_with = "nullable")]
    pub(super) spec: S,
    /// Written by a cluster, read by nobody.
    #[serde(skip_serializing)]
    status: IgnoredAny,
}
