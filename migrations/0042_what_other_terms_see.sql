-- What replay and tier analysis have to see of the past: hits of the cache and streams that were left, which other terms would have charged
-- otherwise, and minutes, which rate limits are about. All of it follows from ledger and request rows, under the same watermark as usage, and can
-- be rebuilt.

-- What of usage was charged by a tier's word about hits and about leaving; only rows of usage that have any. Tokens that were served are those
-- that a hit's answer had when a worker gave it. A stream that was drained was charged for more than was delivered.
CREATE TABLE term_usage (
    tenant_id                 uuid NOT NULL,
    bucket_start              timestamptz NOT NULL,
    key_id                    uuid NOT NULL,
    model                     text NOT NULL,
    tier_version_id           uuid NOT NULL,
    hits                      bigint NOT NULL,
    served_input_tokens       bigint NOT NULL,
    served_output_tokens      bigint NOT NULL,
    hit_input_tokens          bigint NOT NULL,
    hit_cached_input_tokens   bigint NOT NULL,
    hit_output_tokens         bigint NOT NULL,
    left_streams              bigint NOT NULL,
    drained_streams           bigint NOT NULL,
    drained_output_tokens     bigint NOT NULL,
    drained_delivered_tokens  bigint NOT NULL,
    PRIMARY KEY (tenant_id, bucket_start, key_id, model, tier_version_id)
);

-- Minutes in which something was used, of all models and keys together, for thirteen months. What a limit sees of a request depends on when in
-- the minute it came and on what it held meanwhile, so there are two counts of it: what it was at least, and what it can have been at most.
CREATE TABLE usage_minutes (
    tenant_id     uuid NOT NULL,
    minute        timestamptz NOT NULL,
    -- The ledger's, corrections among them.
    requests      bigint NOT NULL,
    tokens        bigint NOT NULL,
    -- At most: all that came, failed ones too, and jobs when they were submitted; what they held while they ran, and what they can have been charged by other terms.
    arrivals      bigint NOT NULL,
    held_tokens   bigint NOT NULL,
    most_tokens   bigint NOT NULL,
    -- At least: what was answered, without jobs; what would be charged by any terms; for how long it ran within the minute.
    admitted      bigint NOT NULL,
    least_tokens  bigint NOT NULL,
    busy_us       bigint NOT NULL,
    -- When the last of those that came had ended.
    last_end      timestamptz,
    PRIMARY KEY (tenant_id, minute)
);
CREATE INDEX usage_minutes_by_minute ON usage_minutes (minute);

CREATE FUNCTION usage_minute(instant timestamptz) RETURNS timestamptz
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    AS $$ SELECT date_bin('1 minute', instant, timestamptz '1970-01-01 00:00:00+00') $$;

-- Whether leaving can have decided what a stream was charged: not where requests have a fixed number of tokens, or one for each of their inputs.
CREATE FUNCTION is_left_stream(p_end text, p_source text, p_input bigint) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$ SELECT coalesce(p_end = 'client_left' AND p_source <> 'fixed' AND NOT (p_source = 'counted' AND p_input = 0), false) $$;

-- Whether a stream whose caller left was charged for what was made and not for what was delivered: all of it, or as much as was held.
CREATE FUNCTION is_drained_stream(
    p_end text, p_delivered bigint, p_generated bigint, p_held bigint, p_input bigint, p_output bigint
) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$
    SELECT coalesce(p_end = 'client_left' AND p_output > p_delivered AND (p_output = p_generated OR p_input + p_output = p_held), false)
    $$;

-- One row for each request that was charged, also where it failed, and for each that failed for nothing, with all that roll-ups count of it. Of
-- one that has no row of its own any more it is not known what it held and for how long, so it is taken to have held all that there is, for a day.
-- A job takes its rate limits when it is submitted, for good, and its slot is free at once; one that failed came to nothing yet, because it can be
-- tried again.
CREATE VIEW settled_requests AS
    SELECT tx, entry_id, tenant_id, key_id, model, tier_version_id, occurred_at, is_billed, is_recorded, is_failed, cache_hit, busy_us AS took_us,
        error_code, http_status, outcome_at, arrived_at,
        arrivals, greatest(held_tokens, most_tokens) AS held_tokens, most_tokens,
        is_admitted::integer AS admitted, CASE WHEN is_admitted AND hits + left_streams = 0 THEN tokens ELSE 0 END AS least_tokens,
        CASE WHEN is_admitted THEN least(busy_us, 60000000 - extract(microseconds FROM arrived_at AT TIME ZONE 'UTC')::bigint) ELSE 0 END AS busy_us,
        last_end, hits, served_input_tokens, served_output_tokens, hit_input_tokens, hit_cached_input_tokens, hit_output_tokens, left_streams,
        drained_streams, drained_output_tokens, drained_delivered_tokens
    FROM (
        SELECT l.tx, l.entry_id, l.tenant_id, l.key_id, l.model, l.tier_version_id, l.occurred_at, true AS is_billed,
            r.request_id IS NOT NULL AS is_recorded, coalesce(r.status = 'failed', false) AS is_failed, is_cache_hit(r.cached) AS cache_hit,
            coalesce(r.processing_us, 0) AS busy_us, r.error_code, r.http_status, coalesce(r.started_at, r.created_at) AS outcome_at,
            CASE WHEN r.is_job THEN r.created_at ELSE l.occurred_at END AS arrived_at, l.input_tokens + l.output_tokens AS tokens,
            coalesce(r.estimated_tokens, 1000000000000) AS held_tokens,
            CASE WHEN r.request_id IS NULL OR r.is_job OR r.stream_end = 'client_left' THEN coalesce(r.estimated_tokens, 1000000000000)
                ELSE greatest(l.input_tokens + l.output_tokens, l.served_input_tokens + l.served_output_tokens) END AS most_tokens,
            1 AS arrivals, NOT coalesce(r.is_job, true) AND r.status <> 'failed' AS is_admitted,
            CASE WHEN r.request_id IS NULL THEN l.occurred_at + interval '1 day' WHEN r.is_job THEN r.created_at
                ELSE greatest(r.completed_at, l.occurred_at + coalesce(r.processing_us, 0) * interval '1 microsecond') END AS last_end,
            (l.token_source = 'cache')::integer AS hits, l.served_input_tokens, l.served_output_tokens,
            CASE WHEN l.token_source = 'cache' THEN l.input_tokens ELSE 0 END AS hit_input_tokens,
            CASE WHEN l.token_source = 'cache' THEN l.cached_input_tokens ELSE 0 END AS hit_cached_input_tokens,
            CASE WHEN l.token_source = 'cache' THEN l.output_tokens ELSE 0 END AS hit_output_tokens,
            s.is_left::integer AS left_streams, s.is_drained::integer AS drained_streams,
            CASE WHEN s.is_drained THEN l.output_tokens ELSE 0 END AS drained_output_tokens,
            CASE WHEN s.is_drained THEN r.delivered_tokens ELSE 0 END AS drained_delivered_tokens
        FROM ledger l LEFT JOIN requests r ON r.request_id = l.entry_id
            CROSS JOIN LATERAL (SELECT is_left_stream(r.stream_end, l.token_source, l.input_tokens) AS is_left) c
            CROSS JOIN LATERAL (SELECT c.is_left, c.is_left AND is_drained_stream(r.stream_end, r.delivered_tokens, r.generated_tokens,
                r.estimated_tokens, l.input_tokens, l.output_tokens) AS is_drained) s
        WHERE l.kind = 'usage'
        UNION ALL
        SELECT r.tx, r.request_id, r.tenant_id, r.key_id, r.model, r.tier_version_id, r.created_at, false, true, true, is_cache_hit(r.cached),
            coalesce(r.processing_us, 0), r.error_code, r.http_status, coalesce(r.started_at, r.created_at), r.created_at, 0,
            CASE WHEN r.is_job THEN 0 ELSE coalesce(r.estimated_tokens, 1000000000000) END, 0, (NOT r.is_job)::integer, false,
            CASE WHEN NOT r.is_job THEN greatest(r.completed_at, r.created_at + coalesce(r.processing_us, 0) * interval '1 microsecond') END,
            0, 0, 0, 0, 0, 0, 0, 0, 0, 0
        FROM requests r WHERE r.status = 'failed' AND coalesce(r.charged_requests, 0) = 0
    ) AS settled;
REVOKE ALL ON settled_requests FROM PUBLIC;

-- As before, and the terms and minutes of the same requests, whose rows are read once. Minutes that are too old go, some with each step.
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
        SELECT tenant_id, occurred_at, usage_bucket(occurred_at) AS bucket_start, key_id, model, tier_version_id, requests, input_tokens,
            cached_input_tokens, output_tokens
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
    ), settled AS MATERIALIZED (
        SELECT * FROM settled_requests WHERE tx >= from_tx AND tx < to_tx
    ), by_terms AS (
        INSERT INTO term_usage AS t (tenant_id, bucket_start, key_id, model, tier_version_id, hits, served_input_tokens, served_output_tokens,
            hit_input_tokens, hit_cached_input_tokens, hit_output_tokens, left_streams, drained_streams, drained_output_tokens,
            drained_delivered_tokens)
        SELECT tenant_id, usage_bucket(occurred_at), key_id, model, tier_version_id, sum(hits), sum(served_input_tokens),
            sum(served_output_tokens), sum(hit_input_tokens), sum(hit_cached_input_tokens), sum(hit_output_tokens), sum(left_streams),
            sum(drained_streams), sum(drained_output_tokens), sum(drained_delivered_tokens)
        FROM settled WHERE hits + left_streams > 0 GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2, 3, 4, 5
        ON CONFLICT (tenant_id, bucket_start, key_id, model, tier_version_id) DO UPDATE SET
            hits = t.hits + EXCLUDED.hits,
            served_input_tokens = t.served_input_tokens + EXCLUDED.served_input_tokens,
            served_output_tokens = t.served_output_tokens + EXCLUDED.served_output_tokens,
            hit_input_tokens = t.hit_input_tokens + EXCLUDED.hit_input_tokens,
            hit_cached_input_tokens = t.hit_cached_input_tokens + EXCLUDED.hit_cached_input_tokens,
            hit_output_tokens = t.hit_output_tokens + EXCLUDED.hit_output_tokens,
            left_streams = t.left_streams + EXCLUDED.left_streams,
            drained_streams = t.drained_streams + EXCLUDED.drained_streams,
            drained_output_tokens = t.drained_output_tokens + EXCLUDED.drained_output_tokens,
            drained_delivered_tokens = t.drained_delivered_tokens + EXCLUDED.drained_delivered_tokens
    ), by_minute AS (
        INSERT INTO usage_minutes AS m (tenant_id, minute, requests, tokens, arrivals, held_tokens, most_tokens, admitted, least_tokens,
            busy_us, last_end)
        SELECT tenant_id, minute, sum(requests), sum(tokens), sum(arrivals), sum(held_tokens), sum(most_tokens), sum(admitted),
            sum(least_tokens), sum(busy_us), max(last_end)
        FROM (
            SELECT tenant_id, usage_minute(occurred_at) AS minute, requests, input_tokens + output_tokens AS tokens, 0 AS arrivals,
                0 AS held_tokens, 0 AS most_tokens, 0 AS admitted, 0 AS least_tokens, 0 AS busy_us, NULL::timestamptz AS last_end
            FROM entries
            UNION ALL
            SELECT tenant_id, usage_minute(arrived_at), 0, 0, arrivals, held_tokens, most_tokens, admitted, least_tokens, busy_us, last_end
            FROM settled WHERE arrivals > 0
        ) minutes
        GROUP BY 1, 2 ORDER BY 1, 2
        ON CONFLICT (tenant_id, minute) DO UPDATE SET
            requests = m.requests + EXCLUDED.requests,
            tokens = m.tokens + EXCLUDED.tokens,
            arrivals = m.arrivals + EXCLUDED.arrivals,
            held_tokens = m.held_tokens + EXCLUDED.held_tokens,
            most_tokens = m.most_tokens + EXCLUDED.most_tokens,
            admitted = m.admitted + EXCLUDED.admitted,
            least_tokens = m.least_tokens + EXCLUDED.least_tokens,
            busy_us = m.busy_us + EXCLUDED.busy_us,
            last_end = greatest(m.last_end, EXCLUDED.last_end)
    ), outcomes AS MATERIALIZED (
        SELECT model, usage_bucket(outcome_at) AS bucket_start, is_failed, cache_hit, took_us AS busy_us, error_code, http_status
        FROM settled WHERE is_recorded
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
    DELETE FROM usage_minutes WHERE (tenant_id, minute) IN (
        SELECT tenant_id, minute FROM usage_minutes WHERE minute < now() - interval '13 months' ORDER BY minute LIMIT 1000);
    RETURN added;
END
$$;

-- The part of rebuild_usage that is new: what is said of it holds here, and the watermark's lock is held.
CREATE FUNCTION rebuild_terms_and_minutes(p_from timestamptz, p_to timestamptz, p_earliest uuid, p_reached xid8) RETURNS void
    LANGUAGE plpgsql
    AS $$
DECLARE
    first_minute timestamptz := greatest(p_from, usage_minute(now() - interval '13 months'));
BEGIN
    DELETE FROM term_usage WHERE bucket_start >= p_from AND bucket_start < p_to;
    INSERT INTO term_usage (tenant_id, bucket_start, key_id, model, tier_version_id, hits, served_input_tokens, served_output_tokens,
        hit_input_tokens, hit_cached_input_tokens, hit_output_tokens, left_streams, drained_streams, drained_output_tokens,
        drained_delivered_tokens)
    SELECT tenant_id, usage_bucket(occurred_at), key_id, model, tier_version_id, sum(hits), sum(served_input_tokens),
        sum(served_output_tokens), sum(hit_input_tokens), sum(hit_cached_input_tokens), sum(hit_output_tokens), sum(left_streams),
        sum(drained_streams), sum(drained_output_tokens), sum(drained_delivered_tokens)
    FROM settled_requests
    WHERE entry_id >= p_earliest AND occurred_at >= p_from AND occurred_at < p_to AND tx < p_reached AND hits + left_streams > 0
    GROUP BY 1, 2, 3, 4, 5;

    DELETE FROM usage_minutes WHERE minute >= p_from AND minute < p_to;
    INSERT INTO usage_minutes (tenant_id, minute, requests, tokens, arrivals, held_tokens, most_tokens, admitted, least_tokens, busy_us,
        last_end)
    SELECT tenant_id, minute, sum(requests), sum(tokens), sum(arrivals), sum(held_tokens), sum(most_tokens), sum(admitted),
        sum(least_tokens), sum(busy_us), max(last_end)
    FROM (
        SELECT tenant_id, usage_minute(occurred_at) AS minute, requests, input_tokens + output_tokens AS tokens, 0 AS arrivals,
            0 AS held_tokens, 0 AS most_tokens, 0 AS admitted, 0 AS least_tokens, 0 AS busy_us, NULL::timestamptz AS last_end
        FROM ledger WHERE entry_id >= p_earliest AND occurred_at >= first_minute AND occurred_at < p_to AND tx < p_reached
        UNION ALL
        SELECT tenant_id, usage_minute(arrived_at), 0, 0, arrivals, held_tokens, most_tokens, admitted, least_tokens, busy_us, last_end
        FROM settled_requests
        WHERE entry_id >= p_earliest AND arrived_at >= first_minute AND arrived_at < p_to AND arrivals > 0
            AND (tx < p_reached OR tx IS NULL AND NOT is_billed)
    ) minutes
    GROUP BY 1, 2;
END
$$;
REVOKE ALL ON FUNCTION rebuild_terms_and_minutes FROM PUBLIC;

-- As before, with the new roll-ups.
CREATE OR REPLACE FUNCTION rebuild_usage(p_from timestamptz, p_to timestamptz) RETURNS bigint
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
    earliest := uuid_lower_bound(greatest(p_from, timestamptz '1970-01-17 00:00:00+00') - interval '15 days');
    DELETE FROM usage WHERE bucket_start >= p_from AND bucket_start < p_to;
    INSERT INTO usage (tenant_id, bucket_start, key_id, model, tier_version_id, requests_count, input_tokens, cached_input_tokens,
        output_tokens)
    SELECT tenant_id, usage_bucket(occurred_at), key_id, model, tier_version_id, sum(requests), sum(input_tokens),
        sum(cached_input_tokens), sum(output_tokens)
    FROM ledger WHERE entry_id >= earliest AND occurred_at >= p_from AND occurred_at < p_to AND tx < reached
    GROUP BY 1, 2, 3, 4, 5;

    PERFORM rebuild_terms_and_minutes(p_from, p_to, earliest, reached);

    DELETE FROM tag_usage WHERE bucket_start >= p_from AND bucket_start < p_to;
    INSERT INTO tag_usage (tenant_id, bucket_start, tag, model, tier_version_id, requests_count, input_tokens, cached_input_tokens,
        output_tokens)
    SELECT tenant_id, bucket_start, tag, model, tier_version_id, sum(requests), sum(input_tokens), sum(cached_input_tokens),
        sum(output_tokens)
    FROM (
        SELECT DISTINCT e.entry_id, e.tenant_id, usage_bucket(e.occurred_at) AS bucket_start, coalesce(k.tag, 'other') AS tag, e.model,
            e.tier_version_id, e.requests, e.input_tokens, e.cached_input_tokens, e.output_tokens
        FROM tagged_entries e
        LEFT JOIN usage_tags k ON k.tenant_id = e.tenant_id AND k.month = usage_month(e.occurred_at) AND k.tag = e.tag
        WHERE e.entry_id >= earliest AND e.occurred_at >= p_from AND e.occurred_at < p_to AND e.tx < reached
    ) parts
    GROUP BY 1, 2, 3, 4, 5;

    DELETE FROM model_latencies WHERE time_window >= p_from AND time_window < p_to;
    DELETE FROM model_errors WHERE time_window >= p_from AND time_window < p_to;
    UPDATE model_usage_metrics SET request_count = 0, token_count = 0, error_count = 0, cache_hit_count = 0, busy_us = 0
    WHERE time_window >= p_from AND time_window < p_to;
    WITH outcomes AS MATERIALIZED (
        SELECT o.model, usage_bucket(o.created_at) AS bucket_start, o.status = 'failed' AS is_failed, o.cache_hit, o.busy_us, o.error_code,
            o.http_status
        FROM request_outcomes o
        WHERE o.request_id >= earliest AND o.created_at >= p_from AND o.created_at < p_to
            AND (o.status = 'completed' AND EXISTS (SELECT FROM ledger l WHERE l.entry_id = o.request_id AND l.tx < reached)
                OR o.status = 'failed' AND (o.tx IS NULL OR o.tx < reached))
    ), by_latency AS (
        INSERT INTO model_latencies (model_name, time_window, latency_class, requests_count)
        SELECT model, bucket_start, latency_class(busy_us), count(*) FROM outcomes WHERE NOT is_failed GROUP BY 1, 2, 3
    ), by_error AS (
        INSERT INTO model_errors (model_name, time_window, error_code, http_status, requests_count)
        SELECT model, bucket_start, coalesce(error_code, ''), coalesce(http_status, 0), count(*) FROM outcomes WHERE is_failed
        GROUP BY 1, 2, 3, 4
    )
    INSERT INTO model_usage_metrics (model_name, time_window, request_count, token_count, error_count, cache_hit_count, busy_us)
    SELECT model, bucket_start, sum(requests), sum(tokens), sum(errors), sum(cache_hits), sum(busy_us) FROM (
        SELECT model, bucket_start, requests_count AS requests, input_tokens + output_tokens AS tokens, 0 AS errors, 0 AS cache_hits,
            0 AS busy_us
        FROM usage WHERE bucket_start >= p_from AND bucket_start < p_to
        UNION ALL
        SELECT model, bucket_start, 0, 0, is_failed::integer, cache_hit::integer, busy_us FROM outcomes
    ) AS parts
    GROUP BY 1, 2 ORDER BY 1, 2
    ON CONFLICT (model_name, time_window) DO UPDATE SET
        request_count = EXCLUDED.request_count, token_count = EXCLUDED.token_count, error_count = EXCLUDED.error_count,
        cache_hit_count = EXCLUDED.cache_hit_count, busy_us = EXCLUDED.busy_us;
    GET DIAGNOSTICS rebuilt = ROW_COUNT;

    -- Whole days, also where the range begins or ends within one.
    DELETE FROM model_latency_days WHERE day >= usage_day(p_from) AND day <= usage_day(p_to);
    INSERT INTO model_latency_days (model_name, day, latency_class, requests_count)
    SELECT model_name, usage_day(time_window), latency_class, sum(requests_count) FROM model_latencies
    WHERE time_window >= date_trunc('day', p_from, 'UTC') AND time_window < date_trunc('day', p_to, 'UTC') + interval '1 day'
    GROUP BY 1, 2, 3;
    RETURN rebuilt;
END
$$;

ALTER TABLE term_usage ENABLE ROW LEVEL SECURITY;
ALTER TABLE usage_minutes ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_rows ON term_usage FOR SELECT TO weir_reader USING (tenant_id = (SELECT current_tenant()));
CREATE POLICY own_rows ON usage_minutes FOR SELECT TO weir_reader USING (tenant_id = (SELECT current_tenant()));
CREATE POLICY roll_up ON term_usage TO weir_jobs USING (true) WITH CHECK (true);
CREATE POLICY roll_up ON usage_minutes TO weir_jobs USING (true) WITH CHECK (true);
CREATE POLICY all_rows ON term_usage FOR SELECT TO weir_admin, weir_reports USING (true);
CREATE POLICY all_rows ON usage_minutes FOR SELECT TO weir_admin, weir_reports USING (true);
GRANT SELECT, INSERT, UPDATE, DELETE ON term_usage, usage_minutes TO weir_jobs;
GRANT SELECT ON term_usage, usage_minutes TO weir_reader, weir_admin, weir_reports;
GRANT SELECT ON settled_requests TO weir_jobs, weir_reports;

-- For what the watermark has passed. What it has not is added by the next roll-up, which waits for this one's end.
DO $$
DECLARE
    reached xid8;
BEGIN
    SELECT position INTO reached FROM rollup_watermark FOR UPDATE;
    PERFORM rebuild_terms_and_minutes('-infinity', 'infinity', uuid_lower_bound('1970-01-02 00:00:00+00'), reached);
END
$$;
