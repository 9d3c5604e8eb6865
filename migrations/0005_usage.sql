-- Usage in buckets of fifteen minutes, because every time zone's midnight falls on one. It follows from the ledger, is never counted
-- beside it, and can be rebuilt at any time.
CREATE TABLE usage (
    tenant_id            uuid NOT NULL,
    bucket_start         timestamptz NOT NULL,
    key_id               uuid NOT NULL,
    model                text NOT NULL,
    tier_version_id      uuid NOT NULL,
    requests_count       bigint NOT NULL,
    input_tokens         bigint NOT NULL,
    cached_input_tokens  bigint NOT NULL,
    output_tokens        bigint NOT NULL,
    PRIMARY KEY (tenant_id, bucket_start, key_id, model, tier_version_id)
);

CREATE TABLE model_usage_metrics (
    model_name     text NOT NULL,
    time_window    timestamptz NOT NULL,
    request_count  bigint NOT NULL DEFAULT 0,
    token_count    bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (model_name, time_window)
);

-- All ledger entries of transactions below the position are in the roll-ups.
CREATE TABLE rollup_watermark (
    singleton  boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    position   xid8 NOT NULL
);
INSERT INTO rollup_watermark (position) VALUES ('0');

CREATE FUNCTION usage_bucket(instant timestamptz) RETURNS timestamptz
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    AS $$ SELECT date_bin('15 minutes', instant, timestamptz '1970-01-01 00:00:00+00') $$;

-- Moves the watermark up to the oldest transaction that still runs and adds the entries in between to the roll-ups, in one transaction.
-- Answers the number of entries added.
CREATE FUNCTION roll_up_usage() RETURNS bigint
    LANGUAGE plpgsql
    AS $$
DECLARE
    from_tx xid8;
    to_tx xid8;
    added bigint;
BEGIN
    SELECT position INTO from_tx FROM rollup_watermark FOR UPDATE;
    to_tx := pg_snapshot_xmin(pg_current_snapshot());
    IF to_tx <= from_tx THEN
        RETURN 0;
    END IF;
    WITH fresh AS MATERIALIZED (
        SELECT tenant_id, usage_bucket(occurred_at) AS bucket_start, key_id, model, tier_version_id, count(*) AS entries,
            sum(requests)::bigint AS requests, sum(input_tokens)::bigint AS input_tokens,
            sum(cached_input_tokens)::bigint AS cached_input_tokens, sum(output_tokens)::bigint AS output_tokens
        FROM ledger WHERE tx >= from_tx AND tx < to_tx
        GROUP BY 1, 2, 3, 4, 5
    ), by_tenant AS (
        INSERT INTO usage AS u (tenant_id, bucket_start, key_id, model, tier_version_id, requests_count, input_tokens,
            cached_input_tokens, output_tokens)
        SELECT tenant_id, bucket_start, key_id, model, tier_version_id, requests, input_tokens, cached_input_tokens, output_tokens
        FROM fresh ORDER BY 1, 2, 3, 4, 5
        ON CONFLICT (tenant_id, bucket_start, key_id, model, tier_version_id) DO UPDATE SET
            requests_count = u.requests_count + EXCLUDED.requests_count,
            input_tokens = u.input_tokens + EXCLUDED.input_tokens,
            cached_input_tokens = u.cached_input_tokens + EXCLUDED.cached_input_tokens,
            output_tokens = u.output_tokens + EXCLUDED.output_tokens
    ), by_model AS (
        INSERT INTO model_usage_metrics AS m (model_name, time_window, request_count, token_count)
        SELECT model, bucket_start, sum(requests), sum(input_tokens + output_tokens) FROM fresh GROUP BY 1, 2 ORDER BY 1, 2
        ON CONFLICT (model_name, time_window) DO UPDATE SET
            request_count = m.request_count + EXCLUDED.request_count, token_count = m.token_count + EXCLUDED.token_count
    )
    SELECT coalesce(sum(entries), 0)::bigint INTO added FROM fresh;
    UPDATE rollup_watermark SET position = to_tx;
    RETURN added;
END
$$;

ALTER TABLE usage ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_rows ON usage FOR SELECT TO weir_reader USING (tenant_id = (SELECT current_tenant()));
CREATE POLICY roll_up ON usage TO weir_jobs USING (true) WITH CHECK (true);
CREATE POLICY all_rows ON usage FOR SELECT TO weir_admin, weir_reports USING (true);

GRANT SELECT, INSERT, UPDATE, DELETE ON usage, model_usage_metrics TO weir_jobs;
GRANT SELECT, UPDATE ON rollup_watermark TO weir_jobs;
GRANT SELECT ON usage, rollup_watermark TO weir_reader, weir_admin, weir_reports;
GRANT SELECT ON model_usage_metrics TO weir_admin, weir_reports;
