//! Shares, written in percent.

use serde::de::{Deserialize, Deserializer, Error};
use weir_core::share::Share;

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Share>, D::Error> {
    let Some(percent) = Option::<f64>::deserialize(deserializer)? else { return Ok(None) };
    let share = Share::from_percent(percent);
    share.map(Some).ok_or_else(|| Error::custom(format!("a share is from 0 to 100 percent, not {percent}")))
}
