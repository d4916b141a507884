//! From the start of a process to its first answer, with what a shop has recorded: after a clean stop, and after the
//! process was killed.

use std::time::Instant;

use crate::Outcome;
use crate::shop::Shop;
use crate::stats::Measure;
use crate::table::row;

/// Restarts hub and till of a shop with one till that holds `records`.
///
/// # Errors
/// A node does not start again, or something is gone.
pub fn measure(shop: &mut Shop, records: usize) -> Outcome<Vec<(&'static str, Measure)>> {
    let mut rows = Vec::new();
    for (row, clean) in [(row::TILL_CLEAN, true), (row::TILL_KILLED, false)] {
        if clean {
            shop.tills[0].stop()?;
        } else if let Some(till) = shop.tills[0].node.take() {
            till.kill();
        }
        let start = Instant::now();
        shop.start_till(0)?;
        let status = shop.tills[0].node()?.connect()?.get("/v1/status")?.json()?;
        rows.push((row, Measure::once(start.elapsed())));
        assert_eq!(status["head_seq"].as_u64(), Some(records as u64), "records after a restart: {status}");
    }
    for (row, clean) in [(row::HUB_CLEAN, true), (row::HUB_KILLED, false)] {
        if clean {
            shop.stop_hub()?;
        } else if let Some(hub) = shop.hub.take() {
            hub.kill();
        }
        let start = Instant::now();
        shop.start_hub()?;
        let mut hub = shop.ask_hub()?;
        let arrived = Shop::arrived(&mut hub)?;
        rows.push((row, Measure::once(start.elapsed())));
        assert_eq!(arrived.values().sum::<u64>(), records as u64, "records after a restart");
    }
    Ok(rows)
}
