//! The command line.

use std::{num::NonZeroUsize, path::PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::{Serialize, Serializer};

use crate::{paced, peers::Peer};

/// Weir beside its peers: requests, latency and CPU per request, measured in one run.
///
/// Every proxy has one worker on core 1; the load generator and the backend share core 0; all traffic stays on loopback.
/// Rounds of the peers are interleaved in a random order, and a figure is the median of the rounds with the lowest and the
/// highest. The run judges nothing: compare Weir with a peer of the same run.
#[derive(Debug, Parser)]
#[command(name = "weir-bench", version, args_conflicts_with_subcommands = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) part: Option<Part>,
    #[command(flatten)]
    pub(crate) options: Options,
}

/// What else this program does: processes that a run starts, so that each can be pinned; and what is no measurement.
#[derive(Debug, Subcommand)]
pub(crate) enum Part {
    /// The backends.
    #[command(hide = true)]
    Backend,
    /// The paced load.
    #[command(hide = true)]
    PacedLoad(paced::Load),
    /// Compare what a plugin does in Weir with what it does in Envoy, request by request
    Compare(Compare),
}

/// What to compare.
#[derive(Debug, Args)]
pub(crate) struct Compare {
    /// The binary of Weir [default: the one built beside this program, the `dist` profile first].
    #[arg(long, value_name = "FILE")]
    pub(crate) weir: Option<PathBuf>,
}

/// What to measure.
#[derive(Debug, Args, Serialize)]
pub(crate) struct Options {
    /// Three rounds of one second each and fewer reloads: to see that everything works, not to quote.
    #[arg(long)]
    pub(crate) quick: bool,
    /// Rounds per peer and case [default: 5; quick: 3].
    #[arg(long, value_name = "N")]
    rounds: Option<NonZeroUsize>,
    /// Seconds per round [default: 5; quick: 1].
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u64).range(1..=60))]
    seconds: Option<u64>,
    /// Reloads in the case `reload` [default: 500; quick: 20].
    #[arg(long, value_name = "N")]
    reloads: Option<NonZeroUsize>,
    /// The cases to run.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Case::value_variants().to_vec())]
    pub(crate) cases: Vec<Case>,
    /// The peers to run them with.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Peer::value_variants().to_vec())]
    pub(crate) peers: Vec<Peer>,
    /// Also write everything, with each round's figures, to this file.
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    pub(crate) json: Option<PathBuf>,
    /// The binary of Weir [default: the one built beside this program, the `dist` profile first].
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    pub(crate) weir: Option<PathBuf>,
    /// Repeats the random orders of an earlier run.
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
}

/// One kind of load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Case {
    /// HTTP/1.1, 32 kept connections, as fast as answers come.
    HeaderRoute,
    /// HTTP/2 to backends in HTTP/1.1, 8 connections of 32 streams.
    #[value(name = "http2-to-http1")]
    Http2ToHttp1,
    /// HTTP/2 on both sides.
    #[value(name = "http2")]
    Http2,
    /// Unary calls of gRPC.
    Grpc,
    /// HTTP/1.1 at a fixed 5,000 requests a second.
    Paced,
    /// A connection for each request.
    NewConnection,
    /// POSTs of 64 KiB, 16 connections.
    #[value(name = "post-64k")]
    Post64k,
    /// Answers of 1 MiB, 16 connections.
    #[value(name = "get-1m")]
    Get1m,
    /// Weir alone: mirroring to targets that answer, refuse, hang or trickle.
    Mirror,
    /// Weir and Envoy: the same plugin of WebAssembly in both, beside none.
    Plugin,
    /// Weir alone: requests with which a plugin never ends, beside a paced load.
    Runaway,
    /// Weir alone: the load of `header-route` with 1, 100, 10,000 and 100,000 rules on the service.
    Rules,
    /// Weir alone: two workers beside one, each with a tenth of a processor.
    Workers,
    /// Weir alone: reloads of a 10,000-rule folder under load.
    Reload,
    /// Weir alone: pod to pod, where no rule concerns it, with and without enrolment.
    Untouched,
    /// Memory and CPU of each proxy with nothing to do.
    Idle,
}

impl Case {
    /// The name on the command line.
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

impl Serialize for Case {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.name())
    }
}

impl Options {
    /// Rounds per peer and case.
    pub(crate) fn rounds(&self) -> usize {
        self.rounds.map_or(if self.quick { 3 } else { 5 }, NonZeroUsize::get)
    }

    /// Seconds per round.
    pub(crate) fn seconds(&self) -> u64 {
        self.seconds.unwrap_or(if self.quick { 1 } else { 5 })
    }

    /// Reloads in the case `reload`.
    pub(crate) fn reloads(&self) -> usize {
        self.reloads.map_or(if self.quick { 20 } else { 500 }, NonZeroUsize::get)
    }
}
