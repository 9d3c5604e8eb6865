-- Turns of the queue: tenants whose jobs wait for later keep nobody from his turn, jobs of a lost process come back apart, and a dead line of a
-- batch that has told of it stays dead.

-- Each queued job is in one of two indexes by tenant. One for both would let a claim walk through all that is not ready: so it has no choice.
CREATE INDEX jobs_ready ON jobs (tenant_id, priority DESC, job_id) WHERE state = 'queued' AND is_ready;
CREATE INDEX jobs_waiting_of_tenant ON jobs (tenant_id) WHERE state = 'queued' AND NOT is_ready;
DROP INDEX jobs_queue;

-- Claims at most p_limit ready jobs for an owner, and counts their attempts.
--
-- The tenants with ready jobs come in turn, from the one after p_after on and round again, at most p_tenants of them in one call; each gets
-- the same share, and what some leave is given to the others. Within a tenant the highest priority comes first, and of the same priority the
-- oldest. The work is bounded by p_limit and p_tenants, however much waits and however many tenants have jobs for later.
-- Every row repeats the tenant after which the next call goes on. Where nothing was claimed, because what was ready was overdue or is held by
-- another at this moment, one row has that tenant alone: else the next call would look at the same tenants again.
CREATE FUNCTION claim_ready_jobs(p_owner uuid, p_limit integer, p_lease_ms bigint, p_after uuid, p_tenants integer)
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
        SELECT q.tenant_id INTO one FROM jobs q WHERE q.state = 'queued' AND q.is_ready AND q.tenant_id > last
            ORDER BY q.tenant_id LIMIT 1;
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
                ORDER BY q.priority DESC, q.job_id LIMIT least(share, room) FOR UPDATE SKIP LOCKED);
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
    IF NOT FOUND THEN
        go_on_after := last;
        RETURN NEXT;
    END IF;
END
$$;
REVOKE ALL ON FUNCTION claim_ready_jobs FROM PUBLIC;
GRANT EXECUTE ON FUNCTION claim_ready_jobs TO weir_writer;

-- For processes of the version before, until they are replaced.
CREATE OR REPLACE FUNCTION claim_jobs(p_owner uuid, p_limit integer, p_lease_ms bigint, p_after uuid, p_tenants integer)
    RETURNS TABLE (job uuid, tenant uuid, key uuid, public_id text, batch uuid, operation text, path_model text, path_version text,
        payload bytea, head_fields text, attempt integer, attempt_limit integer, submitted_at timestamptz, go_on_after uuid)
    LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
    SELECT * FROM claim_ready_jobs(p_owner, p_limit, p_lease_ms, p_after, p_tenants) c WHERE c.job IS NOT NULL
    $$;

-- Gives back what dead owners held: jobs whose lease has run out wait for their next attempt, and those whose attempts are used up are dead.
-- Answers how many of each.
--
-- One of them may have been the reason why the process died. All are suspects, and those that run together with the culprit again lose
-- another attempt; so they come back apart, after anything up to a pause that quadruples with every attempt. The pause is drawn from id and attempt.
CREATE FUNCTION recover_jobs(p_limit integer, p_backoff_ms bigint, p_backoff_limit_ms bigint, OUT returned integer, OUT dead integer)
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
DECLARE
    lost uuid[];
BEGIN
    lost := ARRAY(SELECT j.job_id FROM jobs j WHERE j.state = 'processing' AND j.lease_expires_at < clock_timestamp()
        ORDER BY j.lease_expires_at LIMIT p_limit FOR UPDATE SKIP LOCKED);
    WITH again AS (
        UPDATE jobs j SET state = 'queued', is_ready = false,
            run_at = clock_timestamp() + interval '1 millisecond' * ((hashtextextended(j.job_id::text, j.attempt) & 9223372036854775807)
                % (least(p_backoff_ms << least(2 * j.attempt - 1, 20), p_backoff_limit_ms) + 1)),
            lease_owner = NULL, lease_expires_at = NULL, error_code = 'lease_expired', error_detail = 'The process that ran it has gone.'
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
REVOKE ALL ON FUNCTION recover_jobs(integer, bigint, bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION recover_jobs(integer, bigint, bigint) TO weir_writer;

CREATE OR REPLACE FUNCTION recover_jobs(p_limit integer, OUT returned integer, OUT dead integer)
    LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$ SELECT r.returned, r.dead FROM recover_jobs(p_limit, 1000, 300000) r $$;

-- Gives a dead job five more attempts: 'retried'. 'unknown' where it is not dead. 'reported' where it is a line of a batch that has told of its
-- failure or takes no more answers: what it came to now would be charged, and in no output.
CREATE FUNCTION retry_job(p_job uuid) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
DECLARE
    subject uuid;
BEGIN
    SELECT j.batch_id INTO subject FROM jobs j WHERE j.job_id = p_job AND j.is_dead;
    IF NOT FOUND THEN
        RETURN 'unknown';
    END IF;
    IF subject IS NOT NULL THEN
        -- Collection holds the row while it reads the jobs.
        PERFORM FROM batches b
            WHERE b.batch_id = subject AND b.state = 'in_progress' AND b.expires_at > clock_timestamp() AND b.collected_to < p_job
            FOR UPDATE;
        IF NOT FOUND THEN
            RETURN 'reported';
        END IF;
    END IF;
    UPDATE jobs j SET state = 'queued', is_ready = true, is_dead = false, attempt_limit = j.attempt + 5, run_at = clock_timestamp(),
        deadline_at = greatest(j.deadline_at, clock_timestamp() + interval '24 hours'), ended_at = NULL, expires_at = NULL,
        ended_tx = NULL, http_status = NULL
    WHERE j.job_id = p_job AND j.is_dead;
    IF NOT FOUND THEN
        RETURN 'unknown';
    END IF;
    UPDATE requests r SET status = 'queued', http_status = NULL, error_code = NULL, completed_at = NULL WHERE r.request_id = p_job;
    RETURN 'retried';
END
$$;
REVOKE ALL ON FUNCTION retry_job FROM PUBLIC;
GRANT EXECUTE ON FUNCTION retry_job TO weir_admin;

CREATE OR REPLACE FUNCTION retry_dead_job(p_job uuid) RETURNS boolean
    LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$ SELECT retry_job(p_job) = 'retried' $$;
