-- What those who scale workers have to know of each model: errors, cache hits, busy time and queue depth, by quarters of an hour.
--
-- All but the queue follow from the ledger and the request rows, as usage does, and can be rebuilt. Ledger entry and request row of a
-- request are written in one transaction, so that the one watermark holds for both.

-- NULL in the rows that were there before: their transactions were over when this file was applied.
ALTER TABLE requests ADD COLUMN tx xid8;
ALTER TABLE requests ALTER COLUMN tx SET DEFAULT pg_current_xact_id();
-- Only for those that are in no ledger: settling a completed request does not pay for it.
CREATE INDEX requests_failed_by_transaction ON requests (tx) WHERE status = 'failed';

-- Whether a request was answered from the cache. The one place in which the roll-up learns how a request row says so: a change of that
-- goes here and into the view below.
CREATE FUNCTION is_cache_hit(cached boolean) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$ SELECT coalesce(cached, false) $$;

-- What the roll-up reads of a request, and nothing that a customer sent. A view with its owner's rights.
CREATE VIEW request_outcomes AS
    SELECT request_id, model, created_at, status, is_cache_hit(cached) AS cache_hit, coalesce(processing_us, 0) AS busy_us, tx
    FROM requests;
REVOKE ALL ON request_outcomes FROM PUBLIC;

ALTER TABLE model_usage_metrics
    ADD COLUMN error_count      bigint NOT NULL DEFAULT 0,
    ADD COLUMN cache_hit_count  bigint NOT NULL DEFAULT 0,
    ADD COLUMN busy_us          bigint NOT NULL DEFAULT 0,
    -- The most requests that waited for a worker or were with one on any gateway. A gauge: it cannot be rebuilt.
    ADD COLUMN queue_depth      bigint NOT NULL DEFAULT 0 CHECK (queue_depth >= 0);

-- Moves the watermark up to the oldest transaction that still runs and adds what was written in between to the roll-ups, in one
-- transaction. Answers the number of ledger entries added.
CREATE OR REPLACE FUNCTION roll_up_usage() RETURNS bigint
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
    ), parts AS (
        SELECT model, bucket_start, requests, input_tokens + output_tokens AS tokens, 0 AS errors, 0 AS cache_hits, 0 AS busy_us
        FROM fresh
        UNION ALL
        SELECT o.model, usage_bucket(o.created_at), 0, 0, 0, o.cache_hit::integer, o.busy_us
        FROM entries e JOIN request_outcomes o ON o.request_id = e.request_id WHERE e.kind = 'usage'
        UNION ALL
        SELECT model, usage_bucket(created_at), 0, 0, 1, cache_hit::integer, busy_us
        FROM request_outcomes WHERE status = 'failed' AND tx >= from_tx AND tx < to_tx
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
    )
    SELECT coalesce(sum(entries), 0)::bigint INTO added FROM fresh;
    UPDATE rollup_watermark SET position = to_tx;
    RETURN added;
END
$$;

-- Computes the roll-ups of p_from <= bucket < p_to anew from what the watermark has passed; the queue's depth stays. Both ends are on a
-- quarter of an hour. Answers the number of buckets of models. Nobody else moves the watermark meanwhile, and readers see the old numbers
-- until the commit.
--
-- A request's id is made at the moment that counts for its bucket, and a correction after it, so partitions that are too old are left
-- out; the day is for clocks that were set back. Months whose partitions are no longer there must not be asked for.
CREATE FUNCTION rebuild_usage(p_from timestamptz, p_to timestamptz) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
DECLARE
    reached xid8;
    earliest uuid;
    rebuilt bigint;
BEGIN
    IF isfinite(p_from) AND usage_bucket(p_from) <> p_from OR isfinite(p_to) AND usage_bucket(p_to) <> p_to THEN
        RAISE EXCEPTION 'the ends are not on a quarter of an hour' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    SELECT position INTO reached FROM rollup_watermark FOR UPDATE;
    earliest := uuid_lower_bound(greatest(p_from, timestamptz '1970-01-02 00:00:00+00') - interval '1 day');
    DELETE FROM usage WHERE bucket_start >= p_from AND bucket_start < p_to;
    INSERT INTO usage (tenant_id, bucket_start, key_id, model, tier_version_id, requests_count, input_tokens, cached_input_tokens,
        output_tokens)
    SELECT tenant_id, usage_bucket(occurred_at), key_id, model, tier_version_id, sum(requests), sum(input_tokens),
        sum(cached_input_tokens), sum(output_tokens)
    FROM ledger WHERE entry_id >= earliest AND occurred_at >= p_from AND occurred_at < p_to AND tx < reached
    GROUP BY 1, 2, 3, 4, 5;

    UPDATE model_usage_metrics SET request_count = 0, token_count = 0, error_count = 0, cache_hit_count = 0, busy_us = 0
    WHERE time_window >= p_from AND time_window < p_to;
    INSERT INTO model_usage_metrics (model_name, time_window, request_count, token_count, error_count, cache_hit_count, busy_us)
    SELECT model, bucket_start, sum(requests), sum(tokens), sum(errors), sum(cache_hits), sum(busy_us) FROM (
        SELECT model, bucket_start, requests_count AS requests, input_tokens + output_tokens AS tokens, 0 AS errors, 0 AS cache_hits,
            0 AS busy_us
        FROM usage WHERE bucket_start >= p_from AND bucket_start < p_to
        UNION ALL
        SELECT o.model, usage_bucket(o.created_at), 0, 0, (o.status = 'failed')::integer, o.cache_hit::integer, o.busy_us
        FROM request_outcomes o
        WHERE o.request_id >= earliest AND o.created_at >= p_from AND o.created_at < p_to
            AND (o.status = 'completed' AND EXISTS (SELECT FROM ledger l WHERE l.entry_id = o.request_id AND l.tx < reached)
                OR o.status = 'failed' AND (o.tx IS NULL OR o.tx < reached))
    ) AS parts
    GROUP BY 1, 2 ORDER BY 1, 2
    ON CONFLICT (model_name, time_window) DO UPDATE SET
        request_count = EXCLUDED.request_count, token_count = EXCLUDED.token_count, error_count = EXCLUDED.error_count,
        cache_hit_count = EXCLUDED.cache_hit_count, busy_us = EXCLUDED.busy_us;
    GET DIAGNOSTICS rebuilt = ROW_COUNT;
    RETURN rebuilt;
END
$$;

-- What a gateway saw of a model's queue in a bucket; the greatest of all gateways stays.
CREATE FUNCTION note_queue_depths(p_bucket timestamptz, p_models text[], p_depths bigint[]) RETURNS void
    LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
    INSERT INTO model_usage_metrics AS m (model_name, time_window, queue_depth)
    SELECT model, usage_bucket(p_bucket), max(depth) FROM unnest(p_models, p_depths) AS d (model, depth)
    GROUP BY 1 ORDER BY 1
    ON CONFLICT (model_name, time_window) DO UPDATE SET queue_depth = greatest(m.queue_depth, EXCLUDED.queue_depth)
    $$;

REVOKE ALL ON FUNCTION rebuild_usage, note_queue_depths FROM PUBLIC;
GRANT EXECUTE ON FUNCTION rebuild_usage TO weir_jobs, weir_admin;
GRANT EXECUTE ON FUNCTION note_queue_depths TO weir_writer;
GRANT SELECT ON request_outcomes TO weir_jobs, weir_reports;

-- The columns that are new, for what was there before.
SELECT rebuild_usage('-infinity', 'infinity');
