-- What tower-firstpromoter remembers of FirstPromoter's rewards, so that each is granted once.
-- Never delete a granted row: its reward would be granted again.
CREATE TABLE IF NOT EXISTS firstpromoter_fulfilments (
    namespace   TEXT    NOT NULL, -- the FirstPromoter account; empty where there is only one
    id          TEXT    NOT NULL, -- data.id: the reward, unique within its account
    unit        TEXT    NOT NULL, -- data.unit, such as credits
    amount      TEXT    NOT NULL, -- data.amount, in that unit, exact
    promoter_id TEXT    NOT NULL, -- data.promoter.id: who earned it
    state       TEXT    NOT NULL DEFAULT 'new'
                CHECK (state IN ('new', 'started', 'granted', 'pending', 'failed')),
    attempts    INTEGER NOT NULL DEFAULT 0, -- grants begun; one that was rolled back is not counted
    last_error  TEXT,
    first_seen  INTEGER NOT NULL, -- microseconds since 1970
    changed     INTEGER NOT NULL, -- microseconds since 1970
    PRIMARY KEY (namespace, id)
);

-- What is open, and since when: a handful of rows, whatever the table has grown to.
CREATE INDEX IF NOT EXISTS firstpromoter_fulfilments_open
    ON firstpromoter_fulfilments (namespace, changed) WHERE state <> 'granted';
