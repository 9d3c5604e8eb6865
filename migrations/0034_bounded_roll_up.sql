-- A roll-up of bounded steps.

-- Where a step ends that begins with this transaction: behind the one that has the 50,000th entry or failure from there. Whole transactions, so it
-- can be a batch more.
CREATE FUNCTION roll_up_end(p_from_tx xid8) RETURNS xid8
    LANGUAGE sql STABLE
    AS $$
    SELECT (min(last.tx)::text::numeric + 1)::text::xid8
    FROM (
        (SELECT tx FROM ledger WHERE tx >= p_from_tx ORDER BY tx OFFSET 49999 LIMIT 1)
        UNION ALL
        (SELECT tx FROM request_outcomes WHERE status = 'failed' AND tx >= p_from_tx ORDER BY tx OFFSET 49999 LIMIT 1)
    ) AS last
$$;

-- Moves the watermark up to the oldest transaction that still runs, or by about 50,000 entries and as many failures where more than that was
-- written since, and adds what was written in between to the roll-ups, in one transaction: a roll-up that was away for an hour catches up in
-- steps that end, instead of beginning anew with ever more. Where another process is at it, nothing is done. Answers the number of ledger
-- entries added.
CREATE OR REPLACE FUNCTION roll_up_usage() RETURNS bigint
    LANGUAGE plpgsql
    AS $$
DECLARE
    from_tx xid8;
    to_tx xid8;
    added bigint;
BEGIN
    SELECT position INTO from_tx FROM rollup_watermark FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN 0;
    END IF;
    to_tx := pg_snapshot_xmin(pg_current_snapshot());
    IF to_tx <= from_tx THEN
        RETURN 0;
    END IF;
    to_tx := least(to_tx, roll_up_end(from_tx));
    WITH entries AS MATERIALIZED (
        SELECT tenant_id, usage_bucket(occurred_at) AS bucket_start, key_id, model, tier_version_id, kind, request_id, requests,
            input_tokens, cached_input_tokens, output_tokens
        FROM ledger WHERE tx >= from_tx AND tx < to_tx
    ), fresh AS MATERIALIZED (
        SELECT tenant_id, bucket_start, key_id, model, tier_version_id, count(*) AS entries, sum(requests)::bigint AS requests,
            sum(input_tokens)::bigint AS input_tokens, sum(cached_input_tokens)::bigint AS cached_input_tokens,
            sum(output_tokens)::bigint AS output_tokens
        FROM entries GROUP BY 1, 2, 3, 4, 5
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
    ), outcomes AS MATERIALIZED (
        SELECT o.model, usage_bucket(o.created_at) AS bucket_start, o.status = 'failed' AS is_failed, o.cache_hit, o.busy_us, o.error_code,
            o.http_status
        FROM entries e JOIN request_outcomes o ON o.request_id = e.request_id WHERE e.kind = 'usage'
        UNION ALL
        SELECT model, usage_bucket(created_at), true, cache_hit, busy_us, error_code, http_status
        FROM request_outcomes WHERE status = 'failed' AND tx >= from_tx AND tx < to_tx
    ), parts AS (
        SELECT model, bucket_start, requests, input_tokens + output_tokens AS tokens, 0 AS errors, 0 AS cache_hits, 0 AS busy_us
        FROM fresh
        UNION ALL
        SELECT model, bucket_start, 0, 0, is_failed::integer, cache_hit::integer, busy_us FROM outcomes
    ), by_model AS (
        INSERT INTO model_usage_metrics AS m (model_name, time_window, request_count, token_count, error_count, cache_hit_count, busy_us)
        SELECT model, bucket_start, sum(requests), sum(tokens), sum(errors), sum(cache_hits), sum(busy_us)
        FROM parts GROUP BY 1, 2 ORDER BY 1, 2
        ON CONFLICT (model_name, time_window) DO UPDATE SET
            request_count = m.request_count + EXCLUDED.request_count,
            token_count = m.token_count + EXCLUDED.token_count,
            error_count = m.error_count + EXCLUDED.error_count,
            cache_hit_count = m.cache_hit_count + EXCLUDED.cache_hit_count,
            busy_us = m.busy_us + EXCLUDED.busy_us
    ), by_latency AS (
        INSERT INTO model_latencies AS m (model_name, time_window, latency_class, requests_count)
        SELECT model, bucket_start, latency_class(busy_us), count(*) FROM outcomes WHERE NOT is_failed
        GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
        ON CONFLICT (model_name, time_window, latency_class) DO UPDATE SET requests_count = m.requests_count + EXCLUDED.requests_count
    ), by_latency_day AS (
        INSERT INTO model_latency_days AS m (model_name, day, latency_class, requests_count)
        SELECT model, usage_day(bucket_start), latency_class(busy_us), count(*) FROM outcomes WHERE NOT is_failed
        GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
        ON CONFLICT (day, model_name, latency_class) DO UPDATE SET requests_count = m.requests_count + EXCLUDED.requests_count
    ), by_error AS (
        INSERT INTO model_errors AS m (model_name, time_window, error_code, http_status, requests_count)
        SELECT model, bucket_start, coalesce(error_code, ''), coalesce(http_status, 0), count(*) FROM outcomes WHERE is_failed
        GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4
        ON CONFLICT (model_name, time_window, error_code, http_status)
            DO UPDATE SET requests_count = m.requests_count + EXCLUDED.requests_count
    )
    SELECT coalesce(sum(entries), 0)::bigint INTO added FROM fresh;
    PERFORM roll_up_tags(from_tx, to_tx);
    UPDATE rollup_watermark SET position = to_tx;
    RETURN added;
END
$$;
