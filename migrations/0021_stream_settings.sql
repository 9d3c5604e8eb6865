-- What a model says of its streams, with the other settings of its delivery: what is done and charged when the caller leaves, and how long a
-- stream may pause and take. The tier's word about leaving counts before the model's.
ALTER TABLE model_registry RENAME COLUMN stream_leave TO delivery_stream_leave;
ALTER TABLE model_registry
    ADD COLUMN delivery_stream_gap_ms bigint CHECK (delivery_stream_gap_ms BETWEEN 1 AND 3600000),
    ADD COLUMN delivery_stream_total_ms bigint CHECK (delivery_stream_total_ms BETWEEN 1 AND 86400000);
