//! Replication between two nodes: what they say (`message`) and what one remembers of the other (`peer`). Both
//! directions at once: digest → days → vectors → exactly what is missing, in causal order, acknowledged when
//! durable at the receiver, then pushed live.

mod message;
mod peer;

pub use message::{
    Carried, Digest, Held, MESSAGE_BYTES_LIMIT, Message, MessageError, PROTOCOL_VERSION, Status,
    WAITING_CURRENCIES, digest,
};
pub use peer::{BatchKey, CHUNK_BYTES, Chunk, Peer, WINDOW_BYTES};
