-- How a model's replicas are called. What is not said here is the default of the gateway's own configuration, so that a better default
-- reaches every model that nobody has tuned.
ALTER TABLE model_registry
    ADD COLUMN delivery_balancing text CHECK (delivery_balancing IN ('power_of_two', 'weighted', 'least_latency')),
    ADD COLUMN delivery_safe_to_repeat boolean,
    ADD COLUMN delivery_probe_path text CHECK (delivery_probe_path ~ '^/[!-~]{0,255}$' AND delivery_probe_path !~ '#'),
    ADD COLUMN delivery_replica_concurrency bigint CHECK (delivery_replica_concurrency BETWEEN 1 AND 100000),
    ADD COLUMN delivery_queue_depth bigint CHECK (delivery_queue_depth BETWEEN 0 AND 100000),
    ADD COLUMN delivery_queue_wait_ms bigint CHECK (delivery_queue_wait_ms BETWEEN 0 AND 60000),
    ADD COLUMN delivery_connect_ms bigint CHECK (delivery_connect_ms BETWEEN 1 AND 60000),
    ADD COLUMN delivery_first_byte_ms bigint CHECK (delivery_first_byte_ms BETWEEN 1 AND 3600000),
    ADD COLUMN delivery_total_ms bigint CHECK (delivery_total_ms BETWEEN 1 AND 3600000),
    ADD COLUMN delivery_attempts bigint CHECK (delivery_attempts BETWEEN 1 AND 5),
    ADD COLUMN delivery_hedge_after_ms bigint CHECK (delivery_hedge_after_ms BETWEEN 1 AND 3600000),
    ADD COLUMN delivery_retry_percent bigint CHECK (delivery_retry_percent BETWEEN 0 AND 100),
    ADD COLUMN delivery_breaker_failures bigint CHECK (delivery_breaker_failures BETWEEN 0 AND 1000),
    ADD COLUMN delivery_breaker_percent bigint CHECK (delivery_breaker_percent BETWEEN 0 AND 100),
    ADD COLUMN delivery_breaker_open_ms bigint CHECK (delivery_breaker_open_ms BETWEEN 100 AND 600000),
    ADD COLUMN delivery_slow_start_ms bigint CHECK (delivery_slow_start_ms BETWEEN 0 AND 3600000),
    ADD COLUMN delivery_probe_interval_ms bigint CHECK (delivery_probe_interval_ms BETWEEN 0 AND 3600000),
    ADD COLUMN delivery_probe_timeout_ms bigint CHECK (delivery_probe_timeout_ms BETWEEN 1 AND 60000);
