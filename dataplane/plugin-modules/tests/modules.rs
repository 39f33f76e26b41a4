//! Modules from everywhere: files, layouts, addresses and registries, on this machine.

mod server;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use server::{Answer, Server};
use tempfile::TempDir;
use weir_core::plugin::{ModuleLocation, ModuleSource, hexadecimal};
use weir_plugin_modules::{Digest, MODULE_BYTES, Missing, Modules, Registry, Remote, digest_of};

const MODULE: &[u8] = b"\0asm and what follows";

/// Long enough for anything on this machine.
fn patience() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

/// A folder with all that modules need.
struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn modules(&self, remote: Remote) -> Modules {
        Modules::new(&self.path("plugins"), Some(&self.path("kept")), remote)
    }

    fn read(&self, from: ModuleLocation, sha256: Option<Digest>) -> Result<Vec<u8>, Missing> {
        let remote = Remote::new(Vec::new(), None);
        self.modules(remote).read(&ModuleSource { from, sha256 }, patience())
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.path("plugins").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

fn descriptor(media_type: &str, bytes: &[u8]) -> String {
    let digest = hexadecimal(&digest_of(bytes));
    format!(r#"{{"mediaType":"{media_type}","digest":"sha256:{digest}","size":{}}}"#, bytes.len())
}

/// A manifest with these layers, each with its type.
fn manifest(layers: &[(&str, &[u8])]) -> Vec<u8> {
    let layers: Vec<_> = layers.iter().map(|(media_type, bytes)| descriptor(media_type, bytes)).collect();
    format!(r#"{{"schemaVersion":2,"layers":[{}]}}"#, layers.join(",")).into_bytes()
}

fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, *bytes).unwrap();
    }
    archive.into_inner().unwrap()
}

fn compressed(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// The pieces of images in each form that there is, each with what comes of it.
fn images() -> Vec<(&'static str, Vec<Vec<u8>>, Result<(), &'static str>)> {
    let plain = "application/vnd.module.wasm.content.layer.v1+wasm";
    let (oci, docker) =
        ("application/vnd.oci.image.layer.v1.tar+gzip", "application/vnd.docker.image.rootfs.diff.tar.gzip");
    let module = MODULE.to_vec();
    let settings = b"{}".to_vec();
    let packed = compressed(&archive(&[("etc/x", b"y"), ("./plugin.wasm", MODULE)]));
    let other = compressed(&archive(&[("etc/x", b"y")]));
    let unpacked = archive(&[("plugin.wasm", MODULE)]);
    let index = |manifests: &[(&[u8], &str)]| {
        let manifests: Vec<_> = manifests
            .iter()
            .map(|(bytes, architecture)| {
                let digest = hexadecimal(&digest_of(bytes));
                format!(
                    r#"{{"digest":"sha256:{digest}","platform":{{"architecture":"{architecture}","os":"wasip1"}}}}"#
                )
            })
            .collect();
        format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, manifests.join(",")).into_bytes()
    };
    let artifact = manifest(&[(plain, &module), ("application/vnd.module.wasm.config.v1+json", &settings)]);
    let large = format!(
        r#"{{"layers":[{{"mediaType":"{plain}","digest":"sha256:{}","size":{}}}]}}"#,
        "0".repeat(64),
        MODULE_BYTES + 1
    );
    vec![
        ("an artifact", vec![artifact.clone(), module.clone(), settings], Ok(())),
        ("one of the CNCF", vec![manifest(&[("application/wasm", &module)]), module.clone()], Ok(())),
        ("an image of OCI", vec![manifest(&[(oci, &packed)]), packed.clone()], Ok(())),
        (
            "an image of Docker",
            vec![manifest(&[(docker, &other), (docker, &packed)]), other.clone(), packed.clone()],
            Ok(()),
        ),
        (
            "one that is not compressed",
            vec![manifest(&[("application/vnd.oci.image.layer.v1.tar", &unpacked)]), unpacked],
            Ok(()),
        ),
        ("an index of one", vec![index(&[(&artifact, "amd64")]), artifact.clone(), module.clone()], Ok(())),
        ("an index of several", vec![index(&[(b"x", "amd64"), (&artifact, "wasm")]), artifact.clone(), module], Ok(())),
        ("an index without wasm", vec![index(&[(b"x", "amd64"), (b"y", "arm64")])], Err("none of them for wasm")),
        ("an image without a module", vec![manifest(&[(oci, &other)]), other], Err("no layer has a module")),
        ("one with nothing", vec![manifest(&[])], Err("no layer has a module")),
        ("one that is too large", vec![large.into_bytes()], Err("more than 67108864")),
        ("what is none", vec![b"<html>".to_vec()], Err("the manifest is none")),
        ("an archive that is none", vec![manifest(&[(oci, b"x")]), b"x".to_vec()], Err("")),
    ]
}

#[test]
fn files_are_read_and_checked() {
    let place = Place::new();
    place.write("a.wasm", MODULE);
    let file = |name: &str| ModuleLocation::File(name.into());
    assert_eq!(place.read(file("a.wasm"), None).unwrap(), MODULE);
    assert_eq!(place.read(file("a.wasm"), Some(digest_of(MODULE))).unwrap(), MODULE);
    let absolute = place.path("plugins/a.wasm");
    assert_eq!(place.read(ModuleLocation::File(absolute), None).unwrap(), MODULE);
    let missing = place.read(file("a.wasm"), Some([0; 32])).unwrap_err();
    let is = hexadecimal(&digest_of(MODULE));
    let said = format!("is {}, but the module's is {is}", "0".repeat(64));
    assert_eq!((missing.field, missing.message, missing.again), ("sha256", said, None));
    let missing = place.read(file("none.wasm"), None).unwrap_err();
    assert!(missing.field == "file" && missing.message.contains("none.wasm: No such file"), "{missing:?}");
}

#[test]
fn layouts_have_images_in_all_forms() {
    for (name, pieces, expected) in images() {
        let place = Place::new();
        for piece in &pieces {
            place.write(&format!("image/blobs/sha256/{}", hexadecimal(&digest_of(piece))), piece);
        }
        let from = ModuleLocation::Layout { folder: "image".into(), digest: digest_of(&pieces[0]) };
        match (place.read(from, None), expected) {
            (Ok(bytes), Ok(())) => assert_eq!(bytes, MODULE, "{name}"),
            (Err(missing), Err(expected)) => {
                assert!(missing.field == "layout" && missing.message.contains(expected), "{name}: {missing:?}");
            }
            (found, _) => panic!("{name}: {found:?}"),
        }
    }
}

#[test]
fn a_piece_that_is_another_is_refused() {
    let place = Place::new();
    let (_, pieces, _) = images().swap_remove(0);
    for piece in &pieces {
        place.write(&format!("image/blobs/sha256/{}", hexadecimal(&digest_of(piece))), piece);
    }
    place.write(&format!("image/blobs/sha256/{}", hexadecimal(&digest_of(MODULE))), b"forged");
    let from = ModuleLocation::Layout { folder: "image".into(), digest: digest_of(&pieces[0]) };
    let missing = place.read(from, None).unwrap_err();
    assert!(missing.message.contains("is not what it is called"), "{missing:?}");
}

fn url(server: &Server, path: &str) -> ModuleLocation {
    ModuleLocation::Url(format!("{}{path}", server.url()).into())
}

#[test]
fn what_was_fetched_is_there_without_a_network() {
    let place = Place::new();
    let server = Server::start(|request| match request.path() {
        "/a.wasm" => Answer::ok(MODULE),
        "/moved" => Answer::status(302).with("location", "/a.wasm"),
        _ => Answer::status(404),
    });
    let digest = Some(digest_of(MODULE));
    let (direct, moved) = (url(&server, "/a.wasm"), url(&server, "/moved"));
    assert_eq!(place.read(direct.clone(), digest).unwrap(), MODULE);
    assert_eq!(server.count(), 1);
    // Whatever it is called: it is known by what it comes to.
    assert_eq!(place.read(moved.clone(), digest).unwrap(), MODULE);
    assert_eq!(server.count(), 1);
    assert_eq!(Place::new().read(moved, digest).unwrap(), MODULE);
    drop(server);
    assert_eq!(place.read(direct.clone(), digest).unwrap(), MODULE);
    // What the disk has lost is not used.
    let kept: Vec<_> = fs::read_dir(place.path("kept")).unwrap().map(|entry| entry.unwrap().path()).collect();
    fs::write(&kept[0], b"other").unwrap();
    assert!(place.read(direct, digest).unwrap_err().again.is_some());
}

#[test]
fn what_is_wrong_with_an_address_is_said() {
    let place = Place::new();
    let server = Server::start(|request| match request.path() {
        "/other" => Answer::ok(b"something else"),
        "/large" => Answer::ok(&vec![0; MODULE_BYTES as usize + 1]),
        _ => Answer::status(404),
    });
    for (path, field, expected) in [
        ("/none", "url", "the answer is 404 Not Found"),
        ("/other", "sha256", "but the module's is"),
        ("/large", "url", "limit"),
    ] {
        let missing = place.read(url(&server, path), Some(digest_of(MODULE))).unwrap_err();
        assert!(missing.field == field && missing.message.contains(expected), "{path}: {missing:?}");
    }
    assert_eq!(fs::read_dir(place.path("kept")).unwrap().count(), 0, "what is wrong is kept");
}

#[test]
fn what_takes_long_goes_on_by_itself() {
    let place = Place::new();
    let (barrier, is_open) = (Arc::new(Barrier::new(2)), AtomicBool::new(false));
    let of_server = Arc::clone(&barrier);
    let server = Server::start(move |_| {
        if !is_open.swap(true, Ordering::SeqCst) {
            of_server.wait();
        }
        Answer::ok(MODULE)
    });
    let mut modules = place.modules(Remote::new(Vec::new(), None));
    let source = ModuleSource { from: url(&server, "/a.wasm"), sha256: Some(digest_of(MODULE)) };
    for _ in 0..3 {
        let missing = modules.read(&source, Instant::now()).unwrap_err();
        assert!(missing.message.contains("is being fetched") && missing.again.is_some(), "{missing:?}");
    }
    barrier.wait();
    assert_eq!(modules.read(&source, patience()).unwrap(), MODULE);
    assert_eq!(server.count(), 1);
}

#[test]
fn what_failed_is_tried_again_later() {
    let place = Place::new();
    let server = Server::start(|_| Answer::status(503));
    let mut modules = place.modules(Remote::new(Vec::new(), None));
    let source = ModuleSource { from: url(&server, "/a.wasm"), sha256: Some(digest_of(MODULE)) };
    for _ in 0..3 {
        let missing = modules.read(&source, patience()).unwrap_err();
        assert!(missing.again.is_some_and(|again| !again.is_zero()), "{missing:?}");
    }
    assert_eq!(server.count(), 1, "it is asked again at once");
}

/// A registry that wants a token for everything, and has blobs elsewhere.
fn registry(pieces: Vec<Vec<u8>>, user: Option<&'static str>) -> Server {
    Server::start(move |request| {
        let host = request.header("host").unwrap_or_default().to_owned();
        if request.path() == "/token" {
            assert!(request.target.contains("scope=repository%3Aplugins%2Fa%3Apull"), "{}", request.target);
            return match user {
                Some(user) if request.header("authorization") != Some(user) => Answer::status(401),
                _ => Answer::ok(br#"{"token":"let-me-in"}"#),
            };
        }
        if request.path() == "/elsewhere" {
            assert_eq!(request.header("authorization"), None, "the token goes where it should not");
            return Answer::ok(MODULE);
        }
        if request.header("authorization") != Some("Bearer let-me-in") {
            let challenge =
                format!(r#"Bearer realm="http://{host}/token",service="test",scope="repository:plugins/a:pull""#);
            return Answer::status(401).with("www-authenticate", &challenge);
        }
        let wanted = request.path().strip_prefix("/v2/plugins/a/").unwrap_or_default().to_owned();
        let found = pieces.iter().enumerate().find(|(_, piece)| wanted.ends_with(&hexadecimal(&digest_of(piece))));
        match found {
            Some((0, piece)) if wanted.starts_with("manifests/") => Answer::ok(piece),
            Some((_, piece)) if **piece == *MODULE => {
                let other = host.replace("127.0.0.1", "localhost");
                Answer::status(307).with("location", &format!("http://{other}/elsewhere"))
            }
            Some((_, piece)) => Answer::ok(piece),
            None => Answer::status(404),
        }
    })
}

#[test]
fn registries_are_asked_as_they_want_it() {
    for (name, pieces, expected) in images().into_iter().filter(|(name, ..)| !name.contains("index")) {
        let place = Place::new();
        let server = registry(pieces.clone(), None);
        let plain = Registry { host: server.host(), plain: true, ..Registry::default() };
        let from = ModuleLocation::Image {
            registry: server.host().into(),
            repository: "plugins/a".into(),
            digest: digest_of(&pieces[0]),
        };
        let source = ModuleSource { from, sha256: None };
        let read = || place.modules(Remote::new(vec![plain.clone()], None)).read(&source, patience());
        match (read(), expected) {
            (Ok(bytes), Ok(())) => assert_eq!(bytes, MODULE, "{name}"),
            (Err(missing), Err(expected)) => {
                assert!(missing.field == "image" && missing.message.contains(expected), "{name}: {missing:?}");
                continue;
            }
            (found, _) => panic!("{name}: {found:?}"),
        }
        // And is known without it from then on.
        let count = server.count();
        assert_eq!((read().unwrap(), server.count()), (MODULE.to_vec(), count), "{name}");
    }
}

#[test]
fn a_registry_may_want_to_know_who_asks() {
    let place = Place::new();
    let (_, pieces, _) = images().swap_remove(0);
    // me:secret
    let server = registry(pieces.clone(), Some("Basic bWU6c2VjcmV0"));
    place.write("password", b"secret\n");
    let from = ModuleLocation::Image {
        registry: server.host().into(),
        repository: "plugins/a".into(),
        digest: digest_of(&pieces[0]),
    };
    let source = ModuleSource { from, sha256: None };
    let plain = Registry { host: server.host(), plain: true, ..Registry::default() };
    let missing = place.modules(Remote::new(vec![plain.clone()], None)).read(&source, patience()).unwrap_err();
    assert!(missing.message.contains("the answer is 401"), "{missing:?}");
    let password_file = Some(place.path("plugins/password"));
    let known = Registry { username: Some("me".into()), password_file, ..plain };
    assert_eq!(place.modules(Remote::new(vec![known], None)).read(&source, patience()).unwrap(), MODULE);
}

#[test]
fn an_address_of_tls_is_who_it_says() {
    let place = Place::new();
    let authority = place.path("authority.pem");
    let server = Server::start_tls(&authority, |_| Answer::ok(MODULE));
    let source = ModuleSource { from: url(&server, "/a.wasm"), sha256: Some(digest_of(MODULE)) };
    let read = |roots: Option<&Path>| {
        place.modules(Remote::new(Vec::new(), roots.map(Path::to_owned))).read(&source, patience())
    };
    let missing = read(None).unwrap_err();
    assert!(missing.message.contains("certificate"), "{missing:?}");
    assert_eq!(read(Some(&authority)).unwrap(), MODULE);
}
