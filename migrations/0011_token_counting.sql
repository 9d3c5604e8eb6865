-- How a model's tokens are counted: as the worker reports them (or the fixed number where it reports none), by the gateway, as a fixed number
-- whatever is reported, or by the size of the payload. Part of what a bill rests on, so the source of every count is stored with it.
ALTER TABLE model_registry
    ADD COLUMN token_counting text NOT NULL DEFAULT 'worker' CHECK (token_counting IN ('worker', 'counted', 'fixed', 'payload')),
    ADD COLUMN bytes_per_token integer NOT NULL DEFAULT 4 CHECK (bytes_per_token BETWEEN 1 AND 1000);
