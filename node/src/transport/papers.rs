//! The dialling side of renewals: asks the hub for papers on the connection that is there, again whenever the hub said,
//! and hands the answer to whoever keeps them. When to renew is the hub's to decide; nothing is kept here.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use crate::identity::{Holds, Instance, PublicKey, Reply, ask_for_papers, facts};

use super::leisure::Pace;
use super::link::Link;
use super::quic::Connection;

/// What is held now.
type Tell = dyn Fn() -> Holds + Send + Sync;
/// Takes an answer of the hub with this key.
type Keep = dyn Fn(&PublicKey, &Reply) -> Result<(), String> + Send + Sync;

/// Keeps what a hub answers.
#[derive(Clone)]
pub struct Keeper {
    holds: Arc<Tell>,
    keep: Arc<Keep>,
}

impl Keeper {
    /// `holds` tells what is kept. `keep` is called with the key that the hub's certificate proved; it must have the papers on
    /// disk before it uses them, and say why it does not take them.
    pub fn new(
        holds: impl Fn() -> Holds + Send + Sync + 'static,
        keep: impl Fn(&PublicKey, &Reply) -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        Self { holds: Arc::new(holds), keep: Arc::new(keep) }
    }
}

/// After an answer that did not come or could not be kept: the disk may have space again, the hub be updated.
const AGAIN: Duration = Duration::from_secs(600);

/// Asks once. Gives how long the hub wants to be left alone, and how long it lets a link rest.
pub(super) async fn ask(
    connection: &Connection,
    instance: &Instance,
    keeper: &Keeper,
) -> Result<(Duration, Duration), String> {
    let certificate = connection.peer_certificate().ok_or("the hub showed no certificate")?;
    let hub = facts(&certificate).map_err(|e| e.to_string())?.public_key;
    let stream = connection.open_stream().await.map_err(|e| e.to_string())?;
    let reply = ask_for_papers(&mut stream.into_io(), instance, (keeper.holds)()).await?;
    let (keep, kept) = (keeper.keep.clone(), reply.clone());
    // It writes and fsyncs files.
    let taken = tokio::task::spawn_blocking(move || keep(&hub, &kept)).await;
    taken.map_err(|e| e.to_string())??;
    Ok((Duration::from_secs(reply.ask_again_seconds.max(1)), Duration::from_millis(reply.rest_ms)))
}

/// Keeps the papers new for as long as the link lives, and tells its pace what the hub says of it.
pub(super) fn keep_new(link: &Link, instance: Instance, keeper: Keeper, pace: Pace) {
    let control = link.control();
    tokio::spawn(async move {
        let asking = async {
            loop {
                let pause = match ask(control.connection(), &instance, &keeper).await {
                    Ok((pause, rest)) => {
                        pace.told(rest);
                        pause
                    }
                    Err(reason) => {
                        tracing::warn!("no new papers: {reason}");
                        AGAIN
                    }
                };
                sleep(pause).await;
            }
        };
        tokio::select! {
            () = asking => {}
            _ = control.closed() => {}
        }
    });
}
