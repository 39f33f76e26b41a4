//! Interception: what reaches the proxy, what does not, and what is left afterwards.

mod bytes;
mod flows;
mod life;
mod matrix;
mod places;
mod scope;

use weir_e2e::Terrain;

/// A rule for every request to `vehicle-recognition`, so that its connections are intercepted.
const ALL: &str = "{services: [vehicle-recognition], timeouts: {request: 20s}}";

fn terrain() -> Terrain {
    Terrain::standard().rule("all", ALL)
}
