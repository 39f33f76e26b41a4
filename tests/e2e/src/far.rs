//! A second node: `weir node` on the remote node of a lab, with the documents of the story. And the authorities of both.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use weir_lab::{Lab, Layout, run};

use crate::admin::Admin;
use crate::node::NodeProcess;
use crate::settings::{merge, settings};
use crate::{until_within, weir};

/// The trust domain of stories.
pub const TRUST_DOMAIN: &str = "edge.example";

/// A root, and the authorities of the nodes of a lab that it vouches for.
#[derive(Debug)]
pub struct Authorities {
    folder: tempfile::TempDir,
}

impl Authorities {
    /// Makes a root with `weir ca`.
    #[track_caller]
    #[must_use]
    pub fn new() -> Self {
        let authorities = Self { folder: tempfile::tempdir().unwrap() };
        fs::write(authorities.path("passphrase"), "a passphrase of a story\n").unwrap();
        authorities.root("root");
        authorities
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Makes another root, in a folder of this name.
    #[track_caller]
    pub fn root(&self, name: &str) {
        let (folder, passphrase) = (self.path(name), self.path("passphrase"));
        ca(&["root", "--folder", text(&folder), "--trust-domain", TRUST_DOMAIN, "--passphrase", text(&passphrase)]);
    }

    /// Makes the authority of a node, in a folder of this name, by a root.
    #[track_caller]
    pub fn node(&self, node: &str, name: &str, root: &str) {
        let (folder, passphrase, root) = (self.path(name), self.path("passphrase"), self.path(root));
        let (folder, passphrase, root) = (text(&folder), text(&passphrase), text(&root));
        ca(&[
            "node",
            node,
            "--folder",
            folder,
            "--passphrase",
            passphrase,
            "--root",
            root,
            "--root-passphrase",
            passphrase,
        ]);
    }

    /// What a root has revoked, once it has revoked these: PEM.
    #[track_caller]
    #[must_use]
    pub fn revoke(&self, root: &str, nodes: &[&str]) -> String {
        let (passphrase, root) = (self.path("passphrase"), self.path(root));
        let certificates: Vec<PathBuf> = nodes.iter().map(|node| self.path(node).join("node.crt")).collect();
        let mut arguments = vec!["revoke", "--root", text(&root), "--root-passphrase", text(&passphrase)];
        arguments.extend(certificates.iter().map(|path| text(path)));
        ca(&arguments)
    }

    /// A file of an authority.
    #[must_use]
    pub fn file(&self, folder: &str, name: &str) -> PathBuf {
        self.path(folder).join(name)
    }

    /// The settings of a node of this name with the authority in this folder.
    #[must_use]
    pub fn settings(&self, node: &str, folder: &str) -> Value {
        json!({
            "node": node,
            "interception": { "uplinks": ["eth0"] },
            "identity": {
                "trustDomain": TRUST_DOMAIN,
                "authority": { "folder": self.path(folder), "passphrase": self.path("passphrase") },
            },
        })
    }
}

impl Default for Authorities {
    fn default() -> Self {
        Self::new()
    }
}

#[track_caller]
fn ca(arguments: &[&str]) -> String {
    let mut command = std::process::Command::new(weir());
    command.arg("ca").args(arguments);
    let output = run(command, b"", std::time::Duration::from_secs(30)).unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "weir ca {arguments:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The node on the remote node.
#[derive(Debug)]
pub struct Far {
    /// Its HTTP API.
    pub admin: Admin,
    folder: tempfile::TempDir,
    node: Option<NodeProcess>,
    name: String,
}

impl Far {
    /// Starts it with the documents of this folder, and waits until it is ready.
    #[track_caller]
    pub(crate) fn begin(lab: &Lab, rules: &Path, overlay: &Value) -> Self {
        let folder = tempfile::Builder::new().prefix(&format!("weir-e2e-{}-far-", lab.id)).tempdir().unwrap();
        let admin = Admin::at(folder.path().join("admin.sock"));
        let mut settings = settings(lab, folder.path(), &json!({ "source": { "folder": rules } }));
        merge(&mut settings, json!({ "interception": { "cgroup": null } }));
        merge(&mut settings, overlay.clone());
        fs::write(folder.path().join("node.yaml"), settings.to_string()).unwrap();
        let name = settings["node"].as_str().unwrap().to_owned();
        let node = Some(NodeProcess::start(lab, "remote", folder.path(), &[]));
        let mut far = Self { admin, folder, node, name };
        far.await_ready();
        far
    }

    #[track_caller]
    fn await_ready(&mut self) {
        let (admin, node) = (self.admin.clone(), self.node.as_mut().unwrap());
        until_within(crate::story::READY_LIMIT, "the far node is ready", || {
            if let Some(status) = node.ended() {
                panic!("the far node ended by itself: {status}");
            }
            admin.ready()
        });
    }

    /// Waits until it follows the documents up to this version of content.
    #[track_caller]
    pub fn await_revision(&self, revision: &Value) {
        crate::until("the far node has the same documents", || {
            let now = self.admin.current()["revision"].clone();
            if now == *revision { Ok(()) } else { Err(format!("{now}, not {revision}")) }
        });
    }

    /// Everything that it logged so far.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("node.log")).unwrap_or_default()
    }

    /// Starts another process that takes over, and waits until the one before has ended.
    #[track_caller]
    pub fn take_over(&mut self, lab: &Lab) {
        let next = NodeProcess::start(lab, "remote", self.folder.path(), &["--take-over"]);
        let before = self.node.replace(next);
        let ended = before.unwrap().await_end();
        assert!(ended.success(), "{ended}");
        self.await_ready();
    }

    /// SIGKILL, and waits until the process is gone.
    #[track_caller]
    pub fn kill9(&mut self) {
        self.node.take().unwrap().kill9();
    }
}

impl Drop for Far {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            #[expect(clippy::print_stderr, reason = "a story that fails tells how it was")]
            {
                eprintln!("--- the far node:\n{}", lines[lines.len().saturating_sub(60)..].join("\n"));
            }
        }
        drop(self.node.take());
        let _ = fs::remove_dir_all(crate::story::pins_of(&self.name));
    }
}

/// What a lab's nodes are called in the documents of its pods: this one, and the remote one.
#[must_use]
pub fn node_names(lab: &Layout) -> [String; 2] {
    [lab.node().name.clone(), lab.remote().unwrap().name.clone()]
}
