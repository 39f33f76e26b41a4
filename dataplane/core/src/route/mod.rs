//! Routes: the table of a service, its entries in order of precedence, and the decision about a request.

mod matcher;
mod precedence;
mod request;
mod table;

pub use matcher::{Condition, Field, Matcher, Mismatch, PathMatch, TextMatch};
pub use precedence::Precedence;
pub use request::{Request, Source};
pub use table::{Decision, Entry, RouteTable, Rule, Timeouts};
