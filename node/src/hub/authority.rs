//! The company's certificate authority while the hub runs: shown, replaced, former ones ended. Who may is the API's to ask.

use std::path::Path;
use std::sync::Arc;

use data_encoding::HEXLOWER;
use serde_json::{Value, json};

use super::Hub;
use crate::error::Failure;
use crate::identity::{CaFingerprint, system_seconds};
use crate::runtime::clock::{now_ms, rfc3339};

/// Longest overlap of two authorities, in seconds: a year.
const OVERLAP_MAX_SECONDS: u64 = 366 * 86_400;

impl Hub {
    /// The authority that signs, those it followed, and how long certificates live.
    #[must_use]
    pub fn authority_view(&self) -> Value {
        let (reign, terms) = (self.authority.reign(), self.authority.terms());
        let shown = |der: &[u8]| HEXLOWER.encode(&CaFingerprint::of(der).0);
        let at = |seconds: u64| rfc3339(i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(1_000));
        let former = reign.former.iter().map(|former| {
            json!({
                "fingerprint": shown(&former.certificate),
                "full_until": at(former.full_until),
                "renew_until": at(former.renew_until),
            })
        });
        json!({
            "fingerprint": shown(&reign.certificate),
            "since": (reign.since > 0).then(|| at(reign.since)),
            "former": former.collect::<Vec<_>>(),
            "life_seconds": terms.life_seconds,
            "grace_seconds": terms.grace_seconds,
        })
    }

    /// Makes a new authority and calls every till to fetch a certificate of it. Open join codes end.
    ///
    /// # Errors
    /// The overlap is too long, or the disk fails: then the old one goes on.
    pub fn rotate_authority(&self, overlap_seconds: u64, by: &str) -> Result<Value, Failure> {
        if overlap_seconds > OVERLAP_MAX_SECONDS {
            return Err(Failure::refused(format!("the overlap is at most {OVERLAP_MAX_SECONDS} s")));
        }
        self.alone()?;
        let now = self.authority.time(system_seconds());
        self.authority.rotate(now, overlap_seconds).map_err(Failure::refused)?;
        self.papers_changed()?;
        let view = self.authority_view();
        let detail = format!("{}; overlap {overlap_seconds} s", view["fingerprint"].as_str().unwrap_or(""));
        self.audit.note(now_ms(), None, Some(by.to_owned()), "authority-rotated", detail);
        Ok(view)
    }

    /// Ends every former authority now: tills that have not come since must be enrolled anew.
    ///
    /// # Errors
    /// The disk fails.
    pub fn drop_former_authorities(&self, by: &str) -> Result<Value, Failure> {
        self.alone()?;
        let count = self.authority.drop_former().map_err(Failure::refused)?;
        self.papers_changed()?;
        self.audit.note(now_ms(), None, Some(by.to_owned()), "authority-dropped", format!("{count} ended"));
        Ok(self.authority_view())
    }

    /// Authorities lie in the directories of hubs: one is changed while no other hub is there to show the old one.
    fn alone(&self) -> Result<(), Failure> {
        let others =
            self.rooms.elsewhere.as_ref().map_or(0, |elsewhere| elsewhere.hubs().len().saturating_sub(1));
        if others == 0 {
            return Ok(());
        }
        Err(Failure::refused(format!(
            "{others} other hubs are running with the authority as it is: stop all but one, change it there, and make the \
             directories of the others anew with `tillsync hub add`"
        )))
    }

    /// Shows the hub's new papers from the next handshake on, and calls the tills to it.
    fn papers_changed(&self) -> Result<(), Failure> {
        if let Some(door) = self.rooms.door.get() {
            let papers = self.authority.hub_papers(&self.key.public()).map_err(Failure::refused)?;
            door.identity.replace(papers).map_err(Failure::refused)?;
            door.endpoint.recall("the company's certificate authority changed: fetch new papers");
        }
        Ok(())
    }
}

/// Rotates, or ends the former ones, while no hub runs on the directory.
///
/// # Errors
/// The directory is in use, or the disk fails.
pub fn authority_offline(
    dir: &Path,
    work: impl FnOnce(&Arc<Hub>) -> Result<Value, Failure>,
) -> Result<Value, Failure> {
    crate::runtime::block_on(async {
        let hub = Hub::open(dir, "127.0.0.1:7440", None)?;
        let done = work(&hub);
        hub.shut_down().await?;
        done
    })
    .map_err(|failure| failure.during("hub ca"))
}
