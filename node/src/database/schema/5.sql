-- Hubs that keep themselves ready for logs of others.

-- Numbers of logs that others hold and that this hub would open in a moment: it keeps images of their stores that are nearly new.
ALTER TABLE tillsync.hub ADD COLUMN IF NOT EXISTS warm integer[] NOT NULL DEFAULT '{}';
