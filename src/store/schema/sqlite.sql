-- The records of tower-firstpromoter: one row for each fulfilment, so that each is fulfilled once.
-- Never delete a fulfilled row: its fulfilment would run again.
CREATE TABLE IF NOT EXISTS firstpromoter_fulfilments (
    namespace   TEXT    NOT NULL, -- the FirstPromoter account; empty where there is only one
    id          TEXT    NOT NULL, -- data.id: the fulfilment, unique within its account
    unit        TEXT    NOT NULL, -- data.unit, such as credits
    amount      TEXT    NOT NULL, -- data.amount, in that unit, exact
    promoter_id TEXT    NOT NULL, -- data.promoter.id
    cust_id     TEXT,             -- data.promoter.cust_id: the application's own id of the promoter
    state       TEXT    NOT NULL CHECK (state IN ('in_doubt', 'fulfilled', 'pending', 'failed')),
    attempts    INTEGER NOT NULL, -- runs of the handler; one whose process ended is not counted
    reason      TEXT,             -- why the latest attempt is not fulfilled
    first_seen  INTEGER NOT NULL, -- microseconds since 1970
    changed     INTEGER NOT NULL, -- microseconds since 1970
    PRIMARY KEY (namespace, id)
);

-- Few rows, however many fulfilments there have been.
CREATE INDEX IF NOT EXISTS firstpromoter_fulfilments_open
    ON firstpromoter_fulfilments (namespace, changed) WHERE state <> 'fulfilled';
