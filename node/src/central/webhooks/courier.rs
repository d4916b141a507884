//! Delivers to one receiver, one delivery after the other: the next goes out when the one before was accepted. A failed one is
//! tried again with the same bytes until it is.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use super::body::{Next, next};
use super::post::{Message, Outcome, Post, origin};
use super::retry;
use super::table::{self, Cursor, Delivery, State, Subscription};
use crate::database::{DatabaseError, Link};
use crate::hub::Rooms;
use crate::runtime::clock::now_ms;

/// The pause after the database failed; a connection that has ended takes the courier with it.
const DATABASE_PAUSE: Duration = Duration::from_secs(2);

/// What delivers to one receiver.
pub(super) struct Courier {
    pub(super) rooms: Arc<Rooms>,
    pub(super) link: Arc<Link>,
    pub(super) log_id: [u8; 16],
    pub(super) post: Post,
    pub(super) subscription: Subscription,
    /// Something may be new.
    pub(super) wake: Arc<Notify>,
    /// Failures in a row so far.
    pub(super) failures: u32,
}

/// What a step left to do.
enum Then {
    Again,
    Wait,
    Pause(Duration),
    /// The subscription is not there any more, or not active.
    End,
}

impl Courier {
    /// Delivers until the subscription ends or the task is stopped.
    pub(super) async fn run(mut self) {
        let mut troubles = 0_u32;
        loop {
            let then = match self.step().await {
                Ok(then) => {
                    troubles = 0;
                    then
                }
                Err(error) => {
                    troubles = troubles.saturating_add(1);
                    if troubles.is_power_of_two() {
                        tracing::warn!(webhook = self.subscription.id, "deliveries wait: {error}");
                    }
                    Then::Pause(DATABASE_PAUSE)
                }
            };
            match then {
                Then::Again => {}
                Then::Wait => self.wake.notified().await,
                Then::Pause(pause) => tokio::time::sleep(pause).await,
                Then::End => return,
            }
        }
    }

    async fn step(&mut self) -> Result<Then, DatabaseError> {
        let (id, log) = (self.subscription.id.as_str(), &self.log_id[..]);
        let Some(cursor) = table::cursor(&self.link, id, log).await? else { return Ok(Then::End) };
        match cursor.under_way {
            Some(delivery) => self.deliver(&delivery).await,
            None => self.prepare(&cursor).await,
        }
    }

    /// Fixes the next delivery, or moves over what is not for the receiver. Whoever lost a race looks again.
    async fn prepare(&self, cursor: &Cursor) -> Result<Then, DatabaseError> {
        let (link, id, log) = (&self.link, self.subscription.id.as_str(), &self.log_id[..]);
        match next(link, log, &self.subscription.filter, cursor).await? {
            Next::Nothing => return Ok(Then::Wait),
            Next::Deliver(delivery) => drop(table::fix(link, id, log, cursor, &delivery).await?),
            Next::Skip(to) => drop(table::skip(link, id, log, cursor, (cursor.delivered_seq, to)).await?),
            Next::Anew => drop(table::skip(link, id, log, cursor, (0, 0)).await?),
            Next::Missing(from, to) => {
                if table::skip(link, id, log, cursor, (to, to)).await? {
                    let detail =
                        format!("{id}: changes {from} to {to} were deleted before they were delivered");
                    tracing::warn!("{detail}");
                    self.rooms.alarms.raise(id, "webhook-changes-deleted", detail.clone());
                    self.rooms.audit.note(now_ms(), None, None, "webhook-changes-deleted", detail);
                }
            }
        }
        Ok(Then::Again)
    }

    async fn deliver(&mut self, delivery: &Delivery) -> Result<Then, DatabaseError> {
        let Subscription { id, url, secret, .. } = &self.subscription;
        let message = Message { id: message_id(id, &delivery.body), body: delivery.body.clone() };
        let outcome = self.post.send(url, secret, message, now_ms()).await;
        self.rooms.webhooks.count(&outcome);
        let (link, log) = (&self.link, &self.log_id[..]);
        match outcome {
            Outcome::Accepted => {
                self.failures = 0;
                // Not moved: another hub has moved it, or the subscription was removed. The next step sees which.
                table::accepted(link, id, log, delivery).await?;
                Ok(Then::Again)
            }
            Outcome::Gone => {
                table::failed(link, id, log, delivery, "answered 410 Gone").await?;
                table::set_state(link, id, State::Gone).await?;
                Ok(Then::End)
            }
            Outcome::Failed { reason, asked } => {
                self.failures = self.failures.saturating_add(1);
                if self.failures.is_power_of_two() {
                    tracing::warn!(webhook = id, at = origin(url), "a delivery failed: {reason}");
                }
                table::failed(link, id, log, delivery, &reason).await?;
                Ok(Then::Pause(retry::pause(self.failures, rand::random(), asked)))
            }
        }
    }
}

/// Names a delivery: the same bytes for the same subscription have the same name, wherever and whenever they are sent. The
/// bytes hold the log and the range.
fn message_id(subscription: &str, body: &[u8]) -> String {
    let mut hasher = blake3::Hasher::new_derive_key("tillsync 2026 webhook delivery v1");
    hasher.update(subscription.as_bytes()).update(&[0]).update(body);
    format!("msg_{}", data_encoding::HEXLOWER.encode(&hasher.finalize().as_bytes()[..16]))
}

#[cfg(test)]
mod tests {
    use super::message_id;

    #[test]
    fn a_delivery_is_named_by_what_it_says_and_to_whom() {
        let named = message_id("wh_a", b"{}");
        assert_eq!(named, message_id("wh_a", b"{}"));
        assert_eq!(named.len(), "msg_".len() + 32);
        assert_ne!(named, message_id("wh_b", b"{}"));
        assert_ne!(named, message_id("wh_a", b"{ }"));
    }
}
