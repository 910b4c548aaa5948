-- What tower-firstpromoter remembers of FirstPromoter's rewards, so that each is granted once.
CREATE TABLE IF NOT EXISTS firstpromoter_fulfilments (
    namespace   text          NOT NULL,
    id          numeric(20,0) NOT NULL,
    unit        text          NOT NULL,
    amount      numeric       NOT NULL,
    promoter_id numeric(20,0) NOT NULL,
    state       text          NOT NULL DEFAULT 'new'
                CHECK (state IN ('new', 'started', 'granted', 'pending', 'failed')),
    attempts    integer       NOT NULL DEFAULT 0,
    last_error  text,
    first_seen  timestamptz   NOT NULL DEFAULT clock_timestamp(),
    changed     timestamptz   NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (namespace, id)
);

-- What is open, and since when: a handful of rows, whatever the table has grown to.
CREATE INDEX IF NOT EXISTS firstpromoter_fulfilments_open
    ON firstpromoter_fulfilments (namespace, changed) WHERE state <> 'granted';

COMMENT ON TABLE firstpromoter_fulfilments IS
    'FirstPromoter''s rewards, one row each. Kept by tower-firstpromoter; never delete a granted row: its reward would be granted again';
COMMENT ON COLUMN firstpromoter_fulfilments.namespace IS
    'The FirstPromoter account; empty where there is only one';
COMMENT ON COLUMN firstpromoter_fulfilments.id IS
    'data.id of the delivery: the reward, unique within its account';
COMMENT ON COLUMN firstpromoter_fulfilments.unit IS 'data.unit, such as credits';
COMMENT ON COLUMN firstpromoter_fulfilments.amount IS 'data.amount, in that unit';
COMMENT ON COLUMN firstpromoter_fulfilments.promoter_id IS 'data.promoter.id: who earned it';
COMMENT ON COLUMN firstpromoter_fulfilments.state IS
    'granted; pending (the application left it so); failed (nothing granted, see last_error); started (in doubt, if the row is not locked); new (nothing tried, or undone)';
COMMENT ON COLUMN firstpromoter_fulfilments.attempts IS
    'Grants begun. One that was cut off and undone by the database is not counted';
COMMENT ON COLUMN firstpromoter_fulfilments.last_error IS 'Why the last attempt that failed did';
COMMENT ON COLUMN firstpromoter_fulfilments.first_seen IS 'When it was first heard of';
COMMENT ON COLUMN firstpromoter_fulfilments.changed IS 'When this row last changed';
