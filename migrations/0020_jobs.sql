-- Asynchronous jobs.
--
-- A job is a request whose row is there before it runs: requests says what became of it, for ever, and jobs holds what the queue needs, until
-- the result's time is over. Both have the same key. A job's charge is its request's ledger entry.
ALTER TABLE requests
    -- The row was written at submission; the only rows that settlement changes.
    ADD COLUMN is_job      boolean NOT NULL DEFAULT false,
    -- When the last attempt of a job began; of other requests nothing.
    ADD COLUMN started_at  timestamptz;

-- How long the answer of a job can be had.
ALTER TABLE tier_versions
    ADD COLUMN result_ttl_seconds integer NOT NULL DEFAULT 86400 CHECK (result_ttl_seconds BETWEEN 60 AND 2592000);

CREATE TABLE jobs (
    job_id            uuid PRIMARY KEY,
    tenant_id         uuid NOT NULL,
    user_id           uuid,
    key_id            uuid NOT NULL,
    -- Of a job that came with others in one file.
    batch_id          uuid,
    custom_id         text CHECK (length(custom_id) <= 512),
    -- Which surface reads the payload and writes the answer, as requests.operation.
    operation         text NOT NULL CHECK (length(operation) BETWEEN 1 AND 40),
    model             text NOT NULL,
    -- Model and version where the path names them and not the payload.
    path_model        text,
    path_version      text,
    payload           bytea,
    -- What the request said about the cache and tracing: lines of a head.
    head_fields       text NOT NULL DEFAULT '' CHECK (length(head_fields) <= 8192),
    priority          smallint NOT NULL DEFAULT 5 CHECK (priority BETWEEN 0 AND 9),
    -- Not before; moved on by every retry.
    run_at            timestamptz NOT NULL,
    -- A job that no attempt has ended by then expires instead of running once more.
    deadline_at       timestamptz NOT NULL,
    state             text NOT NULL DEFAULT 'queued'
        CHECK (state IN ('queued', 'processing', 'completed', 'failed', 'cancelled', 'expired')),
    -- Of a queued job: its run_at has come. The ready ones are claimed by one index, the others wait in another.
    is_ready          boolean NOT NULL,
    -- Failed because its attempts were used up: an operator may look and try again.
    is_dead           boolean NOT NULL DEFAULT false,
    -- How often it was claimed, counted before it runs. It is the fence: no two claims share it, and it never goes back.
    attempt           integer NOT NULL DEFAULT 0 CHECK (attempt >= 0),
    -- The last attempt that may be made; moved on by attempts that were given back unused, and by an operator.
    attempt_limit     integer NOT NULL DEFAULT 5 CHECK (attempt_limit >= 1),
    lease_owner       uuid,
    lease_expires_at  timestamptz,
    -- Of the last attempt that failed.
    error_code        text,
    error_detail      text CHECK (length(error_detail) <= 1000),
    http_status       smallint,
    -- The answer as a synchronous request would have got it.
    answer            bytea,
    created_at        timestamptz NOT NULL,
    started_at        timestamptz,
    ended_at          timestamptz,
    -- When the row goes.
    expires_at        timestamptz,
    -- The transaction that ended it: who follows the ended jobs reads those below the oldest running transaction.
    ended_tx          xid8,
    CONSTRAINT jobs_state CHECK (
        CASE state
            WHEN 'queued' THEN num_nonnulls(lease_owner, lease_expires_at, ended_at, expires_at, ended_tx, answer) = 0 AND NOT is_dead
            WHEN 'processing' THEN num_nulls(lease_owner, lease_expires_at, started_at) = 0
                AND num_nonnulls(ended_at, expires_at, ended_tx, answer) = 0 AND NOT is_ready AND NOT is_dead
            ELSE num_nulls(ended_at, expires_at, ended_tx) = 0 AND num_nonnulls(lease_owner, lease_expires_at) = 0 AND NOT is_ready
                AND (state <> 'completed' OR answer IS NOT NULL) AND (state = 'failed' OR NOT is_dead)
                AND (is_dead OR payload IS NULL)
        END),
    CHECK (state NOT IN ('queued', 'processing') OR payload IS NOT NULL)
) WITH (
    fillfactor = 70,
    -- Rows come and go quickly; what is dead at the head of an index is in the way of every claim.
    autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0,
    autovacuum_analyze_scale_factor = 0.1
);
-- From one tenant with queued jobs to the next, and to the first ready ones of each.
CREATE INDEX jobs_queue ON jobs (tenant_id, is_ready DESC, priority DESC, job_id) WHERE state = 'queued';
CREATE INDEX jobs_waiting ON jobs (run_at) WHERE state = 'queued' AND NOT is_ready;
CREATE INDEX jobs_leased ON jobs (lease_expires_at) WHERE state = 'processing';
CREATE INDEX jobs_by_batch ON jobs (batch_id, job_id) WHERE batch_id IS NOT NULL;
CREATE INDEX jobs_ended_by_transaction ON jobs (ended_tx) WHERE ended_tx IS NOT NULL;
CREATE INDEX jobs_by_end ON jobs (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX jobs_dead ON jobs (job_id) WHERE is_dead;

-- Claims at most p_limit ready jobs for an owner, and counts their attempts.
--
-- The tenants with queued jobs come in turn, from the one after p_after on and round again, at most p_tenants of them in one call; each gets
-- the same share, and what some leave is given to the others. Within a tenant the highest priority comes first, and of the same priority the oldest. The
-- work is bounded by p_limit and p_tenants, however much waits: a backlog must not make the planner think otherwise, so it has no choice.
-- Every row repeats the tenant after which the next call goes on.
CREATE FUNCTION claim_jobs(p_owner uuid, p_limit integer, p_lease_ms bigint, p_after uuid, p_tenants integer)
    RETURNS TABLE (job uuid, tenant uuid, key uuid, public_id text, batch uuid, operation text, path_model text, path_version text,
        payload bytea, head_fields text, attempt integer, attempt_limit integer, submitted_at timestamptz, go_on_after uuid)
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
    SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off SET plan_cache_mode = force_generic_plan
    AS $$
DECLARE
    tenants uuid[] := '{}';
    one uuid;
    last uuid := p_after;
    has_wrapped boolean := p_after = '00000000-0000-0000-0000-000000000000';
    claimed uuid[] := '{}';
    taken uuid[];
    share integer;
    room integer := p_limit;
    overdue uuid[];
BEGIN
    UPDATE jobs j SET is_ready = true FROM (
        SELECT w.job_id FROM jobs w WHERE w.state = 'queued' AND NOT w.is_ready AND w.run_at <= clock_timestamp()
        ORDER BY w.run_at LIMIT 1000 FOR UPDATE SKIP LOCKED
    ) due WHERE j.job_id = due.job_id;

    WHILE cardinality(tenants) < p_tenants LOOP
        SELECT q.tenant_id INTO one FROM jobs q WHERE q.state = 'queued' AND q.tenant_id > last ORDER BY q.tenant_id LIMIT 1;
        IF NOT FOUND THEN
            EXIT WHEN has_wrapped;
            has_wrapped := true;
            last := '00000000-0000-0000-0000-000000000000';
            CONTINUE;
        END IF;
        EXIT WHEN has_wrapped AND p_after <> '00000000-0000-0000-0000-000000000000' AND one > p_after;
        tenants := tenants || one;
        last := one;
    END LOOP;

    last := p_after;
    -- The second round gives what is left to those who have more.
    FOR round IN 1 .. 2 LOOP
        EXIT WHEN room = 0 OR cardinality(tenants) = 0;
        share := CASE round WHEN 1 THEN (room + cardinality(tenants) - 1) / cardinality(tenants) ELSE room END;
        FOREACH one IN ARRAY tenants LOOP
            EXIT WHEN room = 0;
            taken := ARRAY(SELECT q.job_id FROM jobs q
                WHERE q.state = 'queued' AND q.tenant_id = one AND q.is_ready AND q.job_id <> ALL (claimed)
                ORDER BY q.is_ready DESC, q.priority DESC, q.job_id LIMIT least(share, room) FOR UPDATE SKIP LOCKED);
            claimed := claimed || taken;
            room := room - cardinality(taken);
            IF round = 1 THEN
                last := one;
            END IF;
        END LOOP;
    END LOOP;

    WITH ended AS (
        UPDATE jobs j SET state = 'expired', is_ready = false, payload = NULL, ended_at = clock_timestamp(),
            expires_at = clock_timestamp() + interval '24 hours', ended_tx = pg_current_xact_id()
        FROM unnest(claimed) AS c (job_id) WHERE j.job_id = c.job_id AND j.deadline_at <= clock_timestamp()
        RETURNING j.job_id
    ), recorded AS (
        UPDATE requests r SET status = 'expired', completed_at = clock_timestamp() FROM ended e WHERE r.request_id = e.job_id
    )
    SELECT coalesce(array_agg(e.job_id), '{}') INTO overdue FROM ended e;
    IF cardinality(overdue) > 0 THEN
        claimed := ARRAY(SELECT c FROM unnest(claimed) AS c WHERE c <> ALL (overdue));
    END IF;

    RETURN QUERY
        WITH leased AS (
            UPDATE jobs j SET state = 'processing', is_ready = false, attempt = j.attempt + 1, lease_owner = p_owner,
                lease_expires_at = clock_timestamp() + p_lease_ms * interval '1 millisecond', started_at = clock_timestamp()
            FROM unnest(claimed) AS c (job_id) WHERE j.job_id = c.job_id
            RETURNING j.*
        ), recorded AS (
            UPDATE requests r SET status = 'processing', started_at = l.started_at FROM leased l WHERE r.request_id = l.job_id
        )
        SELECT l.job_id, l.tenant_id, l.key_id, k.public_id, l.batch_id, l.operation, l.path_model, l.path_version, l.payload, l.head_fields,
            l.attempt, l.attempt_limit, l.created_at, last
        FROM unnest(claimed) WITH ORDINALITY AS c (job_id, position)
        JOIN leased l ON l.job_id = c.job_id
        LEFT JOIN api_keys k ON k.key_id = l.key_id;
END
$$;

-- Gives back what dead owners held: jobs whose lease has run out wait for their next attempt, and those whose attempts are used up are dead.
-- Answers how many of each.
CREATE FUNCTION recover_jobs(p_limit integer, OUT returned integer, OUT dead integer)
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
DECLARE
    lost uuid[];
BEGIN
    lost := ARRAY(SELECT j.job_id FROM jobs j WHERE j.state = 'processing' AND j.lease_expires_at < clock_timestamp()
        ORDER BY j.lease_expires_at LIMIT p_limit FOR UPDATE SKIP LOCKED);
    WITH again AS (
        UPDATE jobs j SET state = 'queued', is_ready = true, lease_owner = NULL, lease_expires_at = NULL, error_code = 'lease_expired',
            error_detail = 'The process that ran it has gone.'
        WHERE j.job_id = ANY (lost) AND j.attempt < j.attempt_limit
        RETURNING j.job_id
    ), recorded AS (
        UPDATE requests r SET status = 'queued' FROM again a WHERE r.request_id = a.job_id
    )
    SELECT count(*) INTO returned FROM again;
    WITH ended AS (
        UPDATE jobs j SET state = 'failed', is_dead = true, lease_owner = NULL, lease_expires_at = NULL, error_code = 'internal_error',
            http_status = 500, error_detail = 'The process that ran it has gone each time.', ended_at = clock_timestamp(),
            expires_at = clock_timestamp() + interval '7 days', ended_tx = pg_current_xact_id()
        WHERE j.job_id = ANY (lost) AND j.state = 'processing'
            AND j.attempt >= j.attempt_limit
        RETURNING j.job_id
    ), recorded AS (
        UPDATE requests r SET status = 'failed', http_status = 500, error_code = 'internal_error', completed_at = clock_timestamp(),
            tx = pg_current_xact_id()
        FROM ended e WHERE r.request_id = e.job_id
    )
    SELECT count(*) INTO dead FROM ended;
END
$$;

-- Cancels queued and running jobs of a tenant, by their ids; a running one's result is refused when it comes. Answers those it ended.
CREATE FUNCTION cancel_jobs(p_tenant uuid, p_jobs uuid[]) RETURNS SETOF uuid
    LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
    WITH subjects AS MATERIALIZED (
        SELECT j.job_id FROM jobs j
        WHERE j.job_id = ANY (p_jobs) AND j.tenant_id = p_tenant AND j.state IN ('queued', 'processing')
        ORDER BY j.job_id FOR UPDATE
    ), ended AS (
        UPDATE jobs j SET state = 'cancelled', is_ready = false, payload = NULL, lease_owner = NULL, lease_expires_at = NULL,
            ended_at = clock_timestamp(), expires_at = clock_timestamp() + interval '24 hours', ended_tx = pg_current_xact_id()
        FROM subjects s WHERE j.job_id = s.job_id
        RETURNING j.job_id
    ), recorded AS (
        UPDATE requests r SET status = 'cancelled', completed_at = clock_timestamp() FROM ended e WHERE r.request_id = e.job_id
    )
    SELECT job_id FROM ended
    $$;

-- Cancels at most p_limit jobs of a batch that have not ended. Answers those it ended; fewer than p_limit is all.
CREATE FUNCTION cancel_batch_jobs(p_tenant uuid, p_batch uuid, p_limit integer) RETURNS SETOF uuid
    LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
    SELECT cancel_jobs(p_tenant, ARRAY(
        SELECT j.job_id FROM jobs j
        WHERE j.batch_id = p_batch AND j.tenant_id = p_tenant AND j.state IN ('queued', 'processing')
        ORDER BY j.job_id LIMIT p_limit))
    $$;

-- Gives a dead job five more attempts. Answers whether it was dead.
CREATE FUNCTION retry_dead_job(p_job uuid) RETURNS boolean
    LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
    WITH again AS (
        UPDATE jobs j SET state = 'queued', is_ready = true, is_dead = false, attempt_limit = j.attempt + 5, run_at = clock_timestamp(),
            deadline_at = greatest(j.deadline_at, clock_timestamp() + interval '24 hours'), ended_at = NULL, expires_at = NULL,
            ended_tx = NULL, http_status = NULL
        WHERE j.job_id = p_job AND j.is_dead
        RETURNING j.job_id
    ), recorded AS (
        UPDATE requests r SET status = 'queued', http_status = NULL, error_code = NULL, completed_at = NULL
        FROM again a WHERE r.request_id = a.job_id
    )
    SELECT EXISTS (SELECT FROM again)
    $$;

-- Removes jobs whose results are past their end, at most p_limit of them. Their requests stay.
CREATE FUNCTION remove_expired_jobs(p_limit integer) RETURNS integer
    LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
    WITH old AS MATERIALIZED (
        SELECT j.job_id FROM jobs j WHERE j.expires_at <= clock_timestamp() ORDER BY j.expires_at LIMIT p_limit FOR UPDATE SKIP LOCKED
    ), removed AS (
        DELETE FROM jobs j USING old WHERE j.job_id = old.job_id RETURNING 1
    )
    SELECT count(*)::integer FROM removed
    $$;
REVOKE ALL ON FUNCTION claim_jobs, recover_jobs, cancel_jobs, cancel_batch_jobs, retry_dead_job, remove_expired_jobs FROM PUBLIC;
GRANT EXECUTE ON FUNCTION claim_jobs, recover_jobs, cancel_jobs, cancel_batch_jobs TO weir_writer;
GRANT EXECUTE ON FUNCTION retry_dead_job TO weir_admin;
GRANT EXECUTE ON FUNCTION remove_expired_jobs TO weir_jobs;

-- What a request did counts for the time in which it did it. Of a job that is not when it was submitted.
CREATE OR REPLACE VIEW request_outcomes AS
    SELECT request_id, model, coalesce(started_at, created_at) AS created_at, status, is_cache_hit(cached) AS cache_hit,
        coalesce(processing_us, 0) AS busy_us, tx
    FROM requests;

-- As before, but the id of a job is older than its charge by as long as it may wait: a week until it may run, and a day or a few until its
-- deadline.
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

ALTER TABLE jobs ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_rows ON jobs FOR SELECT TO weir_reader USING (tenant_id = (SELECT current_tenant()));
CREATE POLICY queueing ON jobs FOR SELECT TO weir_writer, weir_jobs, weir_admin USING (true);
CREATE POLICY submission ON jobs FOR INSERT TO weir_writer WITH CHECK (true);
CREATE POLICY completion ON jobs FOR UPDATE TO weir_writer USING (true) WITH CHECK (true);
-- The rows of other requests are written once.
CREATE POLICY completion ON requests FOR UPDATE TO weir_writer USING (is_job) WITH CHECK (is_job);

GRANT SELECT ON jobs TO weir_reader;
-- All but what the customer sent and got.
GRANT SELECT (job_id, tenant_id, user_id, key_id, batch_id, custom_id, operation, model, priority, run_at, deadline_at, state, is_ready,
    is_dead, attempt, attempt_limit, lease_owner, lease_expires_at, error_code, error_detail, http_status, created_at, started_at,
    ended_at, expires_at, ended_tx) ON jobs TO weir_writer, weir_jobs, weir_admin;
GRANT INSERT ON jobs TO weir_writer;
GRANT UPDATE (state, is_ready, is_dead, attempt_limit, run_at, lease_owner, lease_expires_at, error_code, error_detail, http_status, payload,
    answer, ended_at, expires_at, ended_tx) ON jobs TO weir_writer;
GRANT SELECT (request_id, is_job, status), UPDATE (gateway_id, model, model_version, status, http_status, error_code, completed_at,
    processing_us, estimated_tokens, input_tokens, output_tokens, tier_version_id, cached, prompt, prompt_sha256, result_id, tx)
    ON requests TO weir_writer;
GRANT SELECT (tier_version_id, result_ttl_seconds) ON tier_versions TO weir_writer;
GRANT SELECT (is_job, started_at) ON requests TO weir_admin, weir_reports;
