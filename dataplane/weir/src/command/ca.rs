//! `weir ca`: the embedded authority.

use std::fs::{DirBuilder, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use weir_identity::{NODE_CERTIFICATE, NODE_KEY, NodeAuthority, Passphrase, ROOTS, Root};

use super::print;

/// The files of a root.
const ROOT_CERTIFICATE: &str = "root.crt";
const ROOT_KEY: &str = "root.key";
/// What a node asks its root for.
const REQUEST: &str = "node.csr";

/// Make the authorities that vouch for the workloads of a mesh
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A root vouches for one authority on each node, which vouches for the workloads of that node. The root is needed only when
a node is added or its authority renewed: keep it on another machine. Keys are sealed with a passphrase; none is ever
written in the clear.

Examples, with the root at hand:
  weir ca root --folder root/ --trust-domain edge.example --passphrase root.pass
  weir ca node edge-1 --folder edge-1/ --passphrase node.pass --root root/ --root-passphrase root.pass

With the root offline; the key does not leave the node:
  weir ca request edge-1 --folder /var/lib/weir/authority --passphrase /etc/weir/passphrase      (on the node)
  weir ca sign edge-1 node.csr --root root/ --root-passphrase root.pass > node.crt               (where the root is)
and node.crt, and root/root.crt as roots.crt, into the folder on the node.

Exit status: 0 when it was done; 1 when not; 2 when the command line is wrong.")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Root(RootArgs),
    Node(NodeArgs),
    Request(RequestArgs),
    Sign(SignArgs),
    Revoke(RevokeArgs),
}

/// Make the root of a mesh: root.crt and root.key
#[derive(Debug, clap::Args)]
struct RootArgs {
    /// Where to write it; made if it is not there
    #[arg(long)]
    folder: PathBuf,
    /// What the ids of all workloads begin with
    #[arg(long, default_value = weir_core::workload::TRUST_DOMAIN)]
    trust_domain: String,
    /// A file with the passphrase that seals the key, at least 16 bytes
    #[arg(long)]
    passphrase: PathBuf,
    /// For how many days it is valid, 1 to 36,500
    #[arg(long, default_value_t = 3_650, value_parser = clap::value_parser!(u32).range(1..=36_500))]
    days: u32,
}

/// Where the root is, and what opens its key
#[derive(Debug, clap::Args)]
struct AtRoot {
    /// The folder of the root
    #[arg(long)]
    root: PathBuf,
    /// A file with the passphrase of the root's key
    #[arg(long)]
    root_passphrase: PathBuf,
}

/// Make the authority of a node: all that it needs, in one folder
#[derive(Debug, clap::Args)]
struct NodeArgs {
    /// The name of the node, as its settings and the pods on it say
    name: String,
    /// Where to write node.crt, node.key and roots.crt; made if it is not there
    #[arg(long)]
    folder: PathBuf,
    /// A file with the passphrase that seals the key, at least 16 bytes
    #[arg(long)]
    passphrase: PathBuf,
    #[command(flatten)]
    at: AtRoot,
    /// For how many days it is valid, 1 to 3,650
    #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=3_650))]
    days: u32,
}

/// Make the key of a node's authority (node.key), and the request for its certificate (node.csr)
#[derive(Debug, clap::Args)]
struct RequestArgs {
    /// The name of the node, as its settings and the pods on it say
    name: String,
    /// Where to write them; made if it is not there
    #[arg(long)]
    folder: PathBuf,
    /// A file with the passphrase that seals the key, at least 16 bytes
    #[arg(long)]
    passphrase: PathBuf,
}

/// Print the certificate of a node's authority, as the node has requested it
#[derive(Debug, clap::Args)]
struct SignArgs {
    /// The name of the node; that in the request does not count
    name: String,
    /// The request
    request: PathBuf,
    #[command(flatten)]
    at: AtRoot,
    /// For how many days it is valid, 1 to 3,650
    #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=3_650))]
    days: u32,
}

/// Print the list of the nodes' authorities that the root has revoked
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The list is complete: name all that were ever revoked and have not expired. As revoked.crl in the folders of the nodes it
is in force within seconds; tunnels of what it names are closed.")]
struct RevokeArgs {
    /// Their certificates (node.crt)
    #[arg(required = true)]
    certificates: Vec<PathBuf>,
    #[command(flatten)]
    at: AtRoot,
    /// For how many days the list is current, 1 to 3,650
    #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=3_650))]
    days: u32,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let now = SystemTime::now();
    match &args.command {
        Command::Root(args) => root(args, now)?,
        Command::Node(args) => node(args, now)?,
        Command::Request(args) => {
            let (key, request) = request(&args.name, &args.passphrase)?;
            make(&args.folder)?;
            write(&args.folder, NODE_KEY, &key)?;
            write(&args.folder, REQUEST, &request)?;
        }
        Command::Sign(args) => {
            let request = read(&args.request)?;
            print(&args.at.open()?.sign(&args.name, &request, now, days(args.days))?)?;
        }
        Command::Revoke(args) => {
            let certificates = args.certificates.iter().map(|path| read(path)).collect::<Result<Vec<_>, _>>()?;
            print(&args.at.open()?.revoke(&certificates, now, days(args.days))?)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn root(args: &RootArgs, now: SystemTime) -> anyhow::Result<()> {
    let passphrase = passphrase(&args.passphrase)?;
    let root = Root::create(&args.trust_domain, now, days(args.days))?;
    make(&args.folder)?;
    write(&args.folder, ROOT_KEY, &root.key(&passphrase)?)?;
    write(&args.folder, ROOT_CERTIFICATE, &root.certificate())
}

fn node(args: &NodeArgs, now: SystemTime) -> anyhow::Result<()> {
    let root = args.at.open()?;
    let (key, request) = request(&args.name, &args.passphrase)?;
    let certificate = root.sign(&args.name, &request, now, days(args.days))?;
    make(&args.folder)?;
    write(&args.folder, NODE_KEY, &key)?;
    write(&args.folder, NODE_CERTIFICATE, &certificate)?;
    write(&args.folder, ROOTS, &root.certificate())
}

fn request(name: &str, path: &Path) -> anyhow::Result<(String, String)> {
    anyhow::ensure!(weir_identity::is_node(name), "`{name}` is no name of a node");
    Ok(NodeAuthority::request(name, &passphrase(path)?)?)
}

impl AtRoot {
    fn open(&self) -> anyhow::Result<Root> {
        let [certificate, key] = [ROOT_CERTIFICATE, ROOT_KEY].map(|file| read(&self.root.join(file)));
        let root = Root::read(&certificate?, &key?, &passphrase(&self.root_passphrase)?);
        root.with_context(|| format!("the root in {}", self.root.display()))
    }
}

fn days(days: u32) -> Duration {
    Duration::from_secs(u64::from(days) * 86_400)
}

fn passphrase(path: &Path) -> anyhow::Result<Passphrase> {
    let contents = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    Passphrase::new(&contents).with_context(|| path.display().to_string())
}

fn read(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

fn make(folder: &Path) -> anyhow::Result<()> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.with_context(|| format!("cannot make {}", folder.display()))
}

/// Writes a file that is not there yet: an authority that is written over is lost.
fn write(folder: &Path, name: &str, text: &str) -> anyhow::Result<()> {
    let path = folder.join(name);
    let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
    let mut file = opened.with_context(|| format!("cannot make {}; what is there stays", path.display()))?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).with_context(|| path.display().to_string())?;
    print(&format!("{}\n", path.display()))
}
