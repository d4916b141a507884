//! The way to a database server that speaks PostgreSQL's protocol: the one room that names its client.
//!
//! It knows addresses, TLS, connections, time limits, what an error means, and the versions of the schema. It knows no
//! entry of a log and no account; `storage/postgres` and `central` say what is written. Every SQL statement keeps to what
//! PostgreSQL, Citus, CockroachDB and YugabyteDB share: plain tables, `UPDATE … RETURNING`, `INSERT … SELECT unnest`,
//! `ON CONFLICT`, row locks; no advisory locks, no extension, no server-side function.
//!
//! ```text
//! address.rs  postgres://… and how it is shown without its password     declared once a process
//! tls.rs      the server proves who it is, or there is no connection
//! link.rs     one connection: its settings verified, every statement with a time limit
//! error.rs    what went wrong, whether it passes, and what to do
//! schema.rs   versions and migrations
//! ```

mod address;
mod error;
mod link;
pub mod schema;
mod tls;

pub use address::{Database, declare};
pub use error::{DatabaseError, Passes};
pub use link::{Link, Patience};
pub use tokio_postgres::types::ToSql;
pub use tokio_postgres::{Row, Statement};
