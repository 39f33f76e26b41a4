//! The cases of a run: they start what they need, measure it, and leave tables.

use crate::{ground::Ground, options::Case, report::Table};

mod beside;
mod idle;
mod mirror;
mod reload;
mod rules;
mod untouched;
mod workers;

/// Runs one case.
pub(crate) async fn run(case: Case, ground: &mut Ground) -> anyhow::Result<Vec<Table>> {
    let table = match case {
        Case::Mirror => return mirror::run(ground).await,
        Case::Untouched => return untouched::run(ground).await,
        Case::Rules => rules::run(ground).await?,
        Case::Workers => workers::run(ground).await?,
        Case::Reload => reload::run(ground).await?,
        Case::Idle => idle::run(ground).await?,
        Case::HeaderRoute
        | Case::Http2ToHttp1
        | Case::Http2
        | Case::Grpc
        | Case::Paced
        | Case::NewConnection
        | Case::Post64k
        | Case::Get1m => beside::run(case, ground).await?,
    };
    Ok(vec![table])
}
