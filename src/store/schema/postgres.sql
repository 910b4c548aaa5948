-- The records of tower-firstpromoter: one row for each fulfilment, so that each is fulfilled once.
-- Never delete a fulfilled row: its fulfilment would run again.
CREATE TABLE IF NOT EXISTS firstpromoter_fulfilments (
    namespace   text          NOT NULL, -- the FirstPromoter account; empty where there is only one
    id          numeric(20,0) NOT NULL, -- data.id: the fulfilment, unique within its account
    unit        text          NOT NULL, -- data.unit, such as credits
    amount      numeric       NOT NULL, -- data.amount, in that unit
    promoter_id numeric(20,0) NOT NULL, -- data.promoter.id: whom it is owed to
    cust_id     text,                   -- data.promoter.cust_id: the application's own id of the promoter
    state       text          NOT NULL  -- `failed`: nothing took effect; `started`: running, and in doubt
                                        -- 30 seconds after started_at + runs_within
                CHECK (state IN ('started', 'in_doubt', 'fulfilled', 'pending', 'failed')),
    attempts    bigint        NOT NULL, -- runs of the handler; one undone with its connection is not counted
    run         bigint,                 -- the attempt that is started, or was the last to be
    started_at  timestamptz,            -- when the started attempt began
    runs_within interval,               -- for how long its handler may run
    reason      text,                   -- why the latest attempt is not fulfilled
    first_seen  timestamptz   NOT NULL DEFAULT clock_timestamp(), -- when the row was made
    changed     timestamptz   NOT NULL DEFAULT clock_timestamp(), -- when the row last changed
    PRIMARY KEY (namespace, id)
);

-- What is open, newest first: a handful of rows, whatever the table has grown to.
CREATE INDEX IF NOT EXISTS firstpromoter_fulfilments_open
    ON firstpromoter_fulfilments (namespace, changed) WHERE state <> 'fulfilled';

COMMENT ON TABLE firstpromoter_fulfilments IS
    'FirstPromoter''s fulfilments, kept by tower-firstpromoter. Never delete a fulfilled row: it would be fulfilled again';
