-- What kind of work a request was, and what became of one whose answer was sent piece by piece.
ALTER TABLE routes DROP CONSTRAINT routes_protocol_check,
    ADD CONSTRAINT routes_protocol_check CHECK (protocol IN ('oip', 'predict', 'openai'));
ALTER TABLE workers DROP CONSTRAINT workers_protocol_check,
    ADD CONSTRAINT workers_protocol_check CHECK (protocol IN ('oip', 'predict', 'openai'));

ALTER TABLE requests
    ADD COLUMN operation text NOT NULL DEFAULT 'predict' CHECK (length(operation) BETWEEN 1 AND 40),
    -- Only of a stream that was charged: one that ends before its first token is a failed request.
    ADD COLUMN stream_end text
        CHECK (stream_end IN ('finished', 'client_left', 'worker_failed', 'cut_at_bound', 'deadline', 'stopping')),
    -- Output tokens that were handed to the caller, and that the worker made as far as we know. Which of the two is charged when they differ
    -- is the model's policy.
    ADD COLUMN delivered_tokens bigint CHECK (delivered_tokens >= 0),
    ADD COLUMN generated_tokens bigint CHECK (generated_tokens >= 0),
    ADD CONSTRAINT requests_stream CHECK (num_nulls(stream_end, delivered_tokens, generated_tokens) IN (0, 3));
GRANT SELECT (operation, stream_end, delivered_tokens, generated_tokens) ON requests TO weir_admin, weir_reports;

-- What is done and charged when the caller of a stream leaves: 'cancel' tells the worker to stop and charges what was delivered, 'drain' reads
-- the stream to its end and charges all of it. NULL leaves it to the model's own setting, and a model without one cancels.
ALTER TABLE model_registry
    ADD COLUMN stream_leave text CHECK (stream_leave IN ('cancel', 'drain'));
ALTER TABLE tier_versions
    ADD COLUMN stream_leave text CHECK (stream_leave IN ('cancel', 'drain'));
