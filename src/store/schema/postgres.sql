-- FirstPromoter's fulfilments, one row each, so that each is fulfilled once.
CREATE TABLE IF NOT EXISTS firstpromoter_fulfilments (
    namespace   text          NOT NULL,
    id          numeric(20,0) NOT NULL,
    unit        text          NOT NULL,
    amount      numeric       NOT NULL,
    promoter_id numeric(20,0) NOT NULL,
    cust_id     text,
    state       text          NOT NULL
                CHECK (state IN ('started', 'in_doubt', 'fulfilled', 'pending', 'failed')),
    attempts    bigint        NOT NULL,
    run         bigint,
    started_at  timestamptz,
    runs_within interval,
    reason      text,
    first_seen  timestamptz   NOT NULL DEFAULT clock_timestamp(),
    changed     timestamptz   NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (namespace, id)
);

-- What is open, newest first: a handful of rows, whatever the table has grown to.
CREATE INDEX IF NOT EXISTS firstpromoter_fulfilments_open
    ON firstpromoter_fulfilments (namespace, changed) WHERE state <> 'fulfilled';

COMMENT ON TABLE firstpromoter_fulfilments IS 'FirstPromoter''s fulfilments, kept by tower-firstpromoter. Never delete a fulfilled row: it would be fulfilled again';
COMMENT ON COLUMN firstpromoter_fulfilments.namespace IS 'The FirstPromoter account; empty where there is only one';
COMMENT ON COLUMN firstpromoter_fulfilments.id IS 'data.id of the delivery, unique within its account';
COMMENT ON COLUMN firstpromoter_fulfilments.unit IS 'data.unit, such as credits';
COMMENT ON COLUMN firstpromoter_fulfilments.amount IS 'data.amount, in that unit';
COMMENT ON COLUMN firstpromoter_fulfilments.promoter_id IS 'data.promoter.id: whom it is owed to';
COMMENT ON COLUMN firstpromoter_fulfilments.cust_id IS 'data.promoter.cust_id: the application''s own id of the promoter';
COMMENT ON COLUMN firstpromoter_fulfilments.state IS 'fulfilled; pending (left so by the application); failed (nothing took effect); in_doubt (an attempt began, and whether it took effect is not known); started (running, and in doubt 30 seconds after started_at + runs_within)';
COMMENT ON COLUMN firstpromoter_fulfilments.attempts IS 'Runs of the handler; one that the database undid with its connection is not counted';
COMMENT ON COLUMN firstpromoter_fulfilments.run IS 'The attempt that is started, or was the last to be';
COMMENT ON COLUMN firstpromoter_fulfilments.started_at IS 'When that attempt started';
COMMENT ON COLUMN firstpromoter_fulfilments.runs_within IS 'For how long its handler may run';
COMMENT ON COLUMN firstpromoter_fulfilments.reason IS 'Why the latest attempt is not fulfilled: the error, the panic or the doubt';
COMMENT ON COLUMN firstpromoter_fulfilments.first_seen IS 'When the row was made';
COMMENT ON COLUMN firstpromoter_fulfilments.changed IS 'When the row last changed';
