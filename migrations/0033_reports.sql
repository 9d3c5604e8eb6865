-- Reports: usage by the callers' own tags, how long requests took, and why they failed. All of it follows from ledger and request rows, under
-- the same watermark as usage, and can be rebuilt.

-- What the caller said a request was for, as {team=search,env=prod}. NULL where it said nothing, which costs nothing.
ALTER TABLE ledger ADD COLUMN tags text[] CHECK (cardinality(tags) BETWEEN 1 AND 16);
CREATE INDEX ledger_tagged_by_transaction ON ledger (tx) WHERE tags IS NOT NULL;

-- The tags that have usage of their own: the first hundred of a tenant in a calendar month (UTC). What comes after them is counted as 'other',
-- which no tag can be called, so that a caller who puts an id into a tag does not make the roll-up as large as the ledger. Like the depth of
-- a queue it is not rebuilt: which came first cannot be told from the ledger.
CREATE TABLE usage_tags (
    tenant_id  uuid NOT NULL,
    month      date NOT NULL CHECK (month = date_trunc('month', month)),
    tag        text NOT NULL CHECK (tag ~ '^[^=]{1,32}=.{1,64}$'),
    PRIMARY KEY (tenant_id, month, tag)
);

-- A request with several tags counts in each of them, and once in 'other'.
CREATE TABLE tag_usage (
    tenant_id            uuid NOT NULL,
    bucket_start         timestamptz NOT NULL,
    tag                  text NOT NULL,
    model                text NOT NULL,
    tier_version_id      uuid NOT NULL,
    requests_count       bigint NOT NULL,
    input_tokens         bigint NOT NULL,
    cached_input_tokens  bigint NOT NULL,
    output_tokens        bigint NOT NULL,
    PRIMARY KEY (tenant_id, bucket_start, tag, model, tier_version_id)
);

-- How many requests of a quarter of an hour were answered in a time of each class (see latency_class).
CREATE TABLE model_latencies (
    model_name      text NOT NULL,
    time_window     timestamptz NOT NULL,
    latency_class   smallint NOT NULL CHECK (latency_class BETWEEN 0 AND 303),
    requests_count  bigint NOT NULL,
    PRIMARY KEY (model_name, time_window, latency_class)
);

-- The same by days of UTC, so that a month is read from days and only its edges from quarters of an hour.
CREATE TABLE model_latency_days (
    model_name      text NOT NULL,
    day             date NOT NULL,
    latency_class   smallint NOT NULL CHECK (latency_class BETWEEN 0 AND 303),
    requests_count  bigint NOT NULL,
    PRIMARY KEY (day, model_name, latency_class)
);

CREATE TABLE model_errors (
    model_name      text NOT NULL,
    time_window     timestamptz NOT NULL,
    error_code      text NOT NULL,
    http_status     smallint NOT NULL,
    requests_count  bigint NOT NULL,
    PRIMARY KEY (model_name, time_window, error_code, http_status)
);

-- Reports over all tenants read a range of time.
CREATE INDEX usage_by_bucket ON usage (bucket_start);
CREATE INDEX model_latencies_by_window ON model_latencies (time_window);
CREATE INDEX model_errors_by_window ON model_errors (time_window);
CREATE INDEX model_usage_by_window ON model_usage_metrics (time_window);

-- Classes of times in microseconds: below 16 each its own, from there on eight to each doubling, so that a class is at most an eighth as wide
-- as its lower end. What takes longer than 2^40 us, twelve days, is in the last one. Whole numbers only.
CREATE FUNCTION latency_class(us bigint) RETURNS smallint
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    AS $$
    SELECT CASE WHEN v < 16 THEN v ELSE (e - 2) * 8 + ((v >> (e - 3)) & 7) END::smallint
    FROM (SELECT v, length(ltrim(v::bit(64)::text, '0')) - 1 AS e FROM (SELECT least(greatest(us, 0), 1099511627775) AS v) bounded) sized
    $$;

CREATE FUNCTION usage_day(instant timestamptz) RETURNS date
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    AS $$ SELECT (instant AT TIME ZONE 'UTC')::date $$;

CREATE FUNCTION usage_month(instant timestamptz) RETURNS date
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    AS $$ SELECT date_trunc('month', instant AT TIME ZONE 'UTC')::date $$;

-- As before, and why a request failed.
CREATE OR REPLACE VIEW request_outcomes AS
    SELECT request_id, model, coalesce(started_at, created_at) AS created_at, status, is_cache_hit(cached) AS cache_hit,
        coalesce(processing_us, 0) AS busy_us, tx, error_code, http_status
    FROM requests;

-- One row for each tag of each entry.
CREATE VIEW tagged_entries AS
    SELECT l.entry_id, l.tenant_id, l.occurred_at, l.model, l.tier_version_id, l.requests, l.input_tokens, l.cached_input_tokens,
        l.output_tokens, l.tx, t.tag
    FROM ledger l CROSS JOIN LATERAL unnest(l.tags) AS t (tag)
    WHERE l.tags IS NOT NULL;
REVOKE ALL ON tagged_entries FROM PUBLIC;

-- Lets the tags of these entries in while there is room, and adds the entries to their usage. The two functions below differ in which entries
-- these are; both run under the watermark's lock.
CREATE FUNCTION roll_up_tags(p_from_tx xid8, p_to_tx xid8) RETURNS void
    LANGUAGE plpgsql
    AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM ledger WHERE tags IS NOT NULL AND tx >= p_from_tx AND tx < p_to_tx) THEN
        RETURN;
    END IF;
    INSERT INTO usage_tags (tenant_id, month, tag)
    SELECT f.tenant_id, f.month, f.tag FROM (
        SELECT d.tenant_id, d.month, d.tag, row_number() OVER (PARTITION BY d.tenant_id, d.month ORDER BY d.tag) AS place
        FROM (
            SELECT DISTINCT tenant_id, usage_month(occurred_at) AS month, tag FROM tagged_entries WHERE tx >= p_from_tx AND tx < p_to_tx
        ) d
        WHERE NOT EXISTS (SELECT FROM usage_tags k WHERE k.tenant_id = d.tenant_id AND k.month = d.month AND k.tag = d.tag)
    ) f
    WHERE f.place <= 100 - (SELECT count(*) FROM usage_tags k WHERE k.tenant_id = f.tenant_id AND k.month = f.month);
    INSERT INTO tag_usage AS u (tenant_id, bucket_start, tag, model, tier_version_id, requests_count, input_tokens,
        cached_input_tokens, output_tokens)
    SELECT tenant_id, bucket_start, tag, model, tier_version_id, sum(requests), sum(input_tokens), sum(cached_input_tokens),
        sum(output_tokens)
    FROM (
        SELECT DISTINCT e.entry_id, e.tenant_id, usage_bucket(e.occurred_at) AS bucket_start, coalesce(k.tag, 'other') AS tag, e.model,
            e.tier_version_id, e.requests, e.input_tokens, e.cached_input_tokens, e.output_tokens
        FROM tagged_entries e
        LEFT JOIN usage_tags k ON k.tenant_id = e.tenant_id AND k.month = usage_month(e.occurred_at) AND k.tag = e.tag
        WHERE e.tx >= p_from_tx AND e.tx < p_to_tx
    ) parts
    GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2, 3, 4, 5
    ON CONFLICT (tenant_id, bucket_start, tag, model, tier_version_id) DO UPDATE SET
        requests_count = u.requests_count + EXCLUDED.requests_count,
        input_tokens = u.input_tokens + EXCLUDED.input_tokens,
        cached_input_tokens = u.cached_input_tokens + EXCLUDED.cached_input_tokens,
        output_tokens = u.output_tokens + EXCLUDED.output_tokens;
END
$$;

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

-- As before, with the new roll-ups. The tags that were let in stay.
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

ALTER TABLE usage_tags ENABLE ROW LEVEL SECURITY;
ALTER TABLE tag_usage ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_rows ON usage_tags FOR SELECT TO weir_reader USING (tenant_id = (SELECT current_tenant()));
CREATE POLICY own_rows ON tag_usage FOR SELECT TO weir_reader USING (tenant_id = (SELECT current_tenant()));
CREATE POLICY roll_up ON usage_tags TO weir_jobs USING (true) WITH CHECK (true);
CREATE POLICY roll_up ON tag_usage TO weir_jobs USING (true) WITH CHECK (true);
CREATE POLICY all_rows ON usage_tags FOR SELECT TO weir_admin, weir_reports USING (true);
CREATE POLICY all_rows ON tag_usage FOR SELECT TO weir_admin, weir_reports USING (true);

GRANT SELECT, INSERT, UPDATE, DELETE ON tag_usage, model_latencies, model_latency_days, model_errors TO weir_jobs;
GRANT SELECT, INSERT ON usage_tags TO weir_jobs;
GRANT SELECT ON tagged_entries TO weir_jobs;
GRANT SELECT ON usage_tags, tag_usage TO weir_reader, weir_admin, weir_reports;
GRANT SELECT ON model_latencies, model_latency_days, model_errors TO weir_admin, weir_reports;
-- By whom, of a key.
GRANT SELECT (key_id, tenant_id, user_id) ON api_keys TO weir_reports;
CREATE POLICY all_rows_of_reports ON api_keys FOR SELECT TO weir_reports USING (true);

-- The roll-ups that are new, for what was there before.
SELECT rebuild_usage('-infinity', 'infinity');
