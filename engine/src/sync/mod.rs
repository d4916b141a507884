//! Replication between two nodes: what they say (`message`), what one remembers of the other (`peer`), and what both have
//! seen of a connection (`familiar`), by which single records are written shorter (`likeness`). Both directions at once: digest → days → vectors → exactly what is missing, in causal order, acknowledged when
//! durable at the receiver, then pushed live.

mod bytes;
mod familiar;
mod likeness;
mod message;
mod peer;

pub use familiar::{Familiar, NotShort, SESSIONS_EXPECTED};
pub use message::{
    Announced, Carried, Dialect, Digest, Held, MESSAGE_BYTES_LIMIT, Message, MessageError, PROTOCOL_VERSION,
    SHORT_BATCHES_LIMIT, SHORT_BODY_LIMIT, Short, Status, WAITING_CURRENCIES, digest,
};
pub use peer::{BatchKey, CHUNK_BYTES, Chunk, Peer, WINDOW_BYTES};
