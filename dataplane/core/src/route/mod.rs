//! Routes: the table of a service, its entries in order of precedence, and the decision about a request.

mod index;
mod matcher;
mod precedence;
mod request;
mod table;

pub use matcher::{Condition, Field, Matcher, Mismatch, PathMatch, TextMatch};
pub use precedence::{Created, Precedence};
pub use request::{Request, Source};
pub use table::{Decision, Entry, Outcome, RouteTable, Rule, Section, Timeouts, Unmatched};
