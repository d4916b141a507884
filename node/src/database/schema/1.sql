-- The logs of hubs. A log is the unit of order: one writer appends to it at a time, and its row here says who, up to
-- where, and what was appended last.
CREATE TABLE IF NOT EXISTS tillsync.log (
    log_id bytea PRIMARY KEY,
    -- Where the next entry will stand; entries stand at 0, 1, 2, … without a gap.
    next_position bigint NOT NULL CHECK (next_position >= 0),
    -- Bytes of all entries.
    total_bytes bigint NOT NULL,
    -- Rises whenever a writer takes over or comes back; an append under an older one changes nothing.
    fence bigint NOT NULL,
    -- The process that holds the fence, chosen at random when it starts.
    writer bytea NOT NULL,
    -- The append that moved next_position last, chosen at random, so that its writer can tell after a lost connection.
    last_append bytea NOT NULL,
    -- Who holds it, for people, and until when nobody else takes it, by this server's clock. Its writer prolongs the lease with
    -- every append and every few seconds.
    holder text NOT NULL DEFAULT '',
    lease_until timestamptz NOT NULL DEFAULT now(),
    begun_at timestamptz NOT NULL DEFAULT now()
);

-- What stands in them. The check is BLAKE3 (of an encrypted log: the cipher's tag) over log, position, kind and bytes.
CREATE TABLE IF NOT EXISTS tillsync.entry (
    log_id bytea NOT NULL,
    position bigint NOT NULL,
    kind smallint NOT NULL,
    -- The store that it is about; empty: none, or nobody's business (an encrypted log).
    store text NOT NULL,
    bytes bytea NOT NULL,
    hash bytea NOT NULL,
    PRIMARY KEY (log_id, position)
);

CREATE INDEX IF NOT EXISTS entry_by_store ON tillsync.entry (log_id, store, position);
