//! Images of any form: a manifest, an empty line, and the layer whose digest stands in the manifest where it says `LAYER`. What comes of it is a
//! module of a bounded size, or a reason.
#![no_main]

use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Instant;

use libfuzzer_sys::fuzz_target;
use weir_core::plugin::{ModuleLocation, ModuleSource, hexadecimal};
use weir_plugin_modules::{Digest, MODULE_BYTES, Modules, Remote, digest_of};

/// A layout of the process's own.
static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = std::env::temp_dir().join(format!("weir-fuzz-images-{}", std::process::id()));
    std::fs::create_dir_all(folder.join("blobs/sha256")).expect("a folder for the layout");
    folder
});

fn write(bytes: &[u8]) -> (PathBuf, Digest) {
    let digest = digest_of(bytes);
    let path = FOLDER.join("blobs/sha256").join(hexadecimal(&digest));
    std::fs::write(&path, bytes).expect("write a blob");
    (path, digest)
}

fuzz_target!(|data: &[u8]| {
    let at = data.windows(2).position(|pair| pair == b"\n\n").unwrap_or(data.len());
    let (manifest, layer) = (String::from_utf8_lossy(&data[..at]), data.get(at + 2..).unwrap_or_default());
    let (layer, digest) = write(layer);
    let manifest = manifest.replace("LAYER", &format!("sha256:{}", hexadecimal(&digest)));
    let (manifest, digest) = write(manifest.as_bytes());
    let mut modules = Modules::new(Path::new("/"), None, Remote::new(Vec::new(), None));
    let from = ModuleLocation::Layout { folder: FOLDER.as_path().into(), digest };
    match modules.read(&ModuleSource { from, sha256: None }, Instant::now()) {
        Ok(module) => assert!(module.len() as u64 <= MODULE_BYTES),
        Err(missing) => assert!(!missing.message.is_empty()),
    }
    for path in [layer, manifest] {
        // Where both are the same bytes, it is gone already.
        let _ = std::fs::remove_file(path);
    }
});
