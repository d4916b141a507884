-- Several hubs of one company: who is there, which logs are the company's, and which till belongs to which store.

-- Whose lease a log's row tells of (tillsync.hub); null: a hub that is alone.
ALTER TABLE tillsync.log ADD COLUMN IF NOT EXISTS hub bytea;

-- A company whose stores are spread over shards. Its own log has number 0 and this log_id; the others follow from it.
CREATE TABLE IF NOT EXISTS tillsync.company (
    log_id bytea PRIMARY KEY,
    -- How many shards there are; it never changes.
    shards integer NOT NULL CHECK (shards > 0)
);

-- The hubs' processes. A row whose time is over is a hub that died.
CREATE TABLE IF NOT EXISTS tillsync.hub (
    company bytea NOT NULL,
    -- Its directory, by a name; the same after a restart.
    hub bytea NOT NULL,
    -- Where tills reach it, host:port.
    address text NOT NULL,
    -- Directory, machine and process, for people.
    holder text NOT NULL,
    software text NOT NULL,
    since timestamptz NOT NULL DEFAULT now(),
    alive_until timestamptz NOT NULL,
    PRIMARY KEY (company, hub)
);

-- Which key belongs to which log of which store, so that every hub can send a till where its store is.
CREATE TABLE IF NOT EXISTS tillsync.device (
    company bytea NOT NULL,
    writer bytea NOT NULL,
    store text NOT NULL,
    terminal text NOT NULL,
    incarnation integer NOT NULL,
    revoked boolean NOT NULL DEFAULT false,
    changed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (company, writer)
);
CREATE INDEX IF NOT EXISTS device_by_change ON tillsync.device (company, changed_at);
