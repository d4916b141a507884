-- Subscriptions: who is told of the changes, by which filter. `tillsync db webhook` writes them; hubs read.
CREATE TABLE IF NOT EXISTS tillsync.webhook (
    webhook_id text PRIMARY KEY,
    url text NOT NULL,
    -- What deliveries are signed with; whoever may read this table may sign, too.
    secret text NOT NULL,
    -- Null: all of them. A filter never changes: another one is another subscription.
    topics text[],
    stores text[],
    -- active; paused (by a person); gone (the receiver answered 410).
    state text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

-- How far a subscription is in the feed of a log, and the delivery that is under way: its bytes are fixed here before they are
-- sent for the first time, so every attempt, by whichever hub, sends the same.
CREATE TABLE IF NOT EXISTS tillsync.webhook_cursor (
    webhook_id text NOT NULL,
    log_id bytea NOT NULL,
    -- The last number that the receiver has accepted, and the last that was looked at: what lies between is not for it.
    delivered_seq bigint NOT NULL,
    scanned_seq bigint NOT NULL,
    -- The delivery under way; null: none.
    from_seq bigint,
    to_seq bigint,
    body bytea,
    last_success_at timestamptz,
    last_error text,
    last_error_at timestamptz,
    -- Since the last success; null and 0: it goes well.
    failing_since timestamptz,
    failures integer NOT NULL DEFAULT 0,
    PRIMARY KEY (webhook_id, log_id)
);
