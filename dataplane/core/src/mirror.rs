//! Mirrors: which requests are copied, and where the copy goes.

use http::Method;

use crate::methods::Methods;
use crate::name::ClusterName;
use crate::share::Share;
use crate::split::Target;
use crate::stats::StatsId;

/// A copy of requests to another destination. The client never sees its response and never waits for it.
#[derive(Clone, Debug)]
pub struct Mirror {
    /// What the rule names.
    pub destination: ClusterName,
    /// What that resolves to.
    pub target: Target,
    /// Which share of the requests is copied.
    pub share: Share,
    /// Which methods are copied. Those that change nothing unless somebody says otherwise: a copied write would be done
    /// twice.
    pub methods: Methods,
    /// Where copies are counted.
    pub stats: StatsId,
}

impl Mirror {
    /// Whether a request with this method and this random number is copied.
    pub fn wants(&self, method: &Method, roll: u64) -> bool {
        self.methods.contains(method) && self.share.contains(roll)
    }
}
