//! The settings file of a story's node. JSON is YAML, so a JSON value is written.

use std::path::Path;

use serde_json::{Value, json};
use weir_lab::Layout;

/// Two workers, so that there are several; everything logged that a story may look for.
pub(crate) fn settings(lab: &Layout, folder: &Path, overlay: &Value) -> Value {
    let mut settings = json!({
        "node": node_name(lab),
        "state": folder.join("state"),
        "source": { "folder": folder.join("rules"), "checkEveryMs": 1000 },
        "workers": 2,
        "admin": { "address": format!("unix:{}", folder.join("admin.sock").display()) },
        "interception": { "bridge": "cni0", "cgroup": lab.pods_cgroup, "fail": "closed" },
        "proxy": { "accessLog": { "path": folder.join("access.log") } },
        "log": { "filter": "info,weir::ebpf=debug" },
    });
    merge(&mut settings, overlay.clone());
    settings
}

fn node_name(lab: &Layout) -> String {
    format!("e2e-{}", lab.id)
}

/// Objects are merged, null removes, everything else replaces (RFC 7396).
pub(crate) fn merge(base: &mut Value, overlay: Value) {
    match (base, overlay) {
        (Value::Object(base), Value::Object(overlay)) => {
            for (key, value) in overlay {
                if value.is_null() {
                    base.remove(&key);
                } else {
                    merge(base.entry(key).or_insert(Value::Null), value);
                }
            }
        }
        (base, overlay) => *base = overlay,
    }
}
