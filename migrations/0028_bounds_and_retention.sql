-- Bounds that hold for each tenant, and what a tenant's retention means for jobs that are dead and for files of batches.

-- The history is read in an order that these indexes have and the primary key's has not. Else the planner takes the primary key's for tenants
-- that have most of the requests, and then a page walks past whatever the others have sent since.
DROP INDEX requests_by_tenant;
CREATE INDEX requests_by_tenant ON requests (tenant_id, request_id DESC NULLS LAST);
DROP INDEX requests_not_completed;
CREATE INDEX requests_not_completed ON requests (tenant_id, request_id DESC NULLS LAST) WHERE status <> 'completed';

-- Attempts that were claimed and could not be made, which was our fault; the customer is not told of them. Attempts themselves cannot go back,
-- because their number is the fence.
ALTER TABLE webhook_deliveries ADD COLUMN uncounted integer NOT NULL DEFAULT 0 CHECK (uncounted BETWEEN 0 AND attempts);
CREATE INDEX webhook_deliveries_of_tenant_under_way ON webhook_deliveries (tenant_id) WHERE state = 'sending';

-- Takes deliveries that are due, for one attempt each: at most p_limit, at most p_per_webhook under way at one webhook, one at a webhook that
-- fails, and at most p_per_tenant at all webhooks of one tenant, so that neither a dead receiver nor a tenant with many slow ones holds up others.
-- One that is not finished within p_lease_ms may be taken again.
--
-- A webhook, and a tenant, that another process is claiming for is passed over, and what is under way is counted after that is sure. So the
-- bounds hold over all processes. What a tenant has room for is divided among its webhooks.
CREATE FUNCTION claim_webhook_deliveries(p_limit integer, p_per_webhook integer, p_per_tenant integer, p_lease_ms bigint) RETURNS TABLE (
    delivery uuid, webhook uuid, tenant uuid, event uuid, attempt integer, tries_now integer, age_ms bigint, target text, secret bytea,
    previous bytea, content text
)
    LANGUAGE plpgsql
    AS $$
DECLARE
    began timestamptz := clock_timestamp();
    chosen uuid[];
    one uuid;
    owners uuid[] := '{}';
BEGIN
    chosen := ARRAY(
        WITH RECURSIVE outstanding (webhook_id) AS (
            (SELECT d.webhook_id FROM webhook_deliveries d WHERE d.state IN ('waiting', 'sending') ORDER BY d.webhook_id LIMIT 1)
            UNION ALL
            SELECT (SELECT d.webhook_id FROM webhook_deliveries d
                WHERE d.state IN ('waiting', 'sending') AND d.webhook_id > o.webhook_id ORDER BY d.webhook_id LIMIT 1)
            FROM outstanding o WHERE o.webhook_id IS NOT NULL
        )
        SELECT w.webhook_id FROM outstanding o JOIN webhooks w ON w.webhook_id = o.webhook_id
        WHERE w.state <> 'disabled' AND EXISTS (SELECT FROM webhook_deliveries d
            WHERE d.webhook_id = w.webhook_id AND d.state IN ('waiting', 'sending') AND d.next_attempt_at <= began)
            -- A tenant without room would only take the places of others here.
            AND (SELECT count(*) FROM webhook_deliveries b
                WHERE b.tenant_id = w.tenant_id AND b.state = 'sending' AND b.next_attempt_at > began) < p_per_tenant
        ORDER BY random() LIMIT p_limit
        FOR NO KEY UPDATE OF w SKIP LOCKED);
    FOR one IN SELECT DISTINCT w.tenant_id FROM webhooks w WHERE w.webhook_id = ANY (chosen) LOOP
        IF pg_try_advisory_xact_lock(hashtextextended('weir.webhook_claims ' || one, 0)) THEN
            owners := owners || one;
        END IF;
    END LOOP;
    IF cardinality(owners) = 0 THEN
        RETURN;
    END IF;
    began := clock_timestamp();
    RETURN QUERY
        WITH due AS MATERIALIZED (
            SELECT x.delivery_id, x.next_attempt_at, w.tenant_id,
                row_number() OVER (PARTITION BY w.webhook_id ORDER BY x.next_attempt_at) AS place
            FROM webhooks w CROSS JOIN LATERAL (
                SELECT d.delivery_id, d.next_attempt_at FROM webhook_deliveries d
                WHERE d.webhook_id = w.webhook_id AND d.state IN ('waiting', 'sending') AND d.next_attempt_at <= began
                ORDER BY d.next_attempt_at
                LIMIT greatest(0, CASE WHEN w.failing_since IS NULL THEN p_per_webhook ELSE 1 END - (
                    SELECT count(*) FROM webhook_deliveries b
                    WHERE b.webhook_id = w.webhook_id AND b.state = 'sending' AND b.next_attempt_at > began))
                FOR UPDATE SKIP LOCKED
            ) x
            WHERE w.webhook_id = ANY (chosen) AND w.tenant_id = ANY (owners)
        ), ranked AS (
            SELECT d.delivery_id, row_number() OVER (PARTITION BY d.tenant_id ORDER BY d.place, d.next_attempt_at) AS place, d.tenant_id FROM due d
        ), fitting AS (
            SELECT r.delivery_id FROM ranked r
            WHERE r.place <= p_per_tenant - (SELECT count(*) FROM webhook_deliveries b
                WHERE b.tenant_id = r.tenant_id AND b.state = 'sending' AND b.next_attempt_at > began)
            ORDER BY r.place LIMIT p_limit
        ), taken AS (
            UPDATE webhook_deliveries d SET state = 'sending', attempts = d.attempts + 1, tries = d.tries + 1, last_attempt_at = began,
                next_attempt_at = began + p_lease_ms * interval '1 millisecond'
            FROM fitting WHERE d.delivery_id = fitting.delivery_id
            RETURNING d.*
        )
        SELECT t.delivery_id, t.webhook_id, t.tenant_id, t.event_id, t.attempts, t.tries,
            (extract(epoch FROM began - t.tried_from) * 1000)::bigint, w.url, w.sealed_secret,
            CASE WHEN w.previous_until > began THEN w.previous_secret END, e.body
        FROM taken t JOIN webhooks w ON w.webhook_id = t.webhook_id JOIN webhook_events e ON e.event_id = t.event_id;
END
$$;

-- As before, and 'postponed': nothing was sent, and that was our fault. Then the webhook is left as it is, and the delivery too, but that it waits for
-- the pause, which is no part of its schedule.
CREATE OR REPLACE FUNCTION finish_webhook_delivery(
    p_delivery uuid, p_attempt integer, p_outcome text, p_status smallint, p_error text, p_ms integer, p_pause_ms bigint,
    p_disable_after_ms bigint
) RETURNS text
    LANGUAGE plpgsql
    AS $$
DECLARE
    hook uuid;
    now_state text;
BEGIN
    -- The webhook before the delivery, as in a claim.
    SELECT d.webhook_id INTO hook FROM webhook_deliveries d
        WHERE d.delivery_id = p_delivery AND d.attempts = p_attempt AND d.state = 'sending';
    IF p_outcome = 'postponed' THEN
        PERFORM FROM webhooks w WHERE w.webhook_id = hook AND w.state <> 'disabled' FOR NO KEY UPDATE;
        IF FOUND THEN
            UPDATE webhook_deliveries d SET state = 'waiting', tries = d.tries - 1, uncounted = d.uncounted + 1, last_error = p_error,
                last_status = NULL, last_ms = NULL, tried_from = d.tried_from + p_pause_ms * interval '1 millisecond',
                next_attempt_at = clock_timestamp() + p_pause_ms * interval '1 millisecond'
                WHERE d.delivery_id = p_delivery AND d.attempts = p_attempt AND d.state = 'sending';
            RETURN CASE WHEN FOUND THEN (SELECT w.state FROM webhooks w WHERE w.webhook_id = hook) ELSE 'lost' END;
        END IF;
        -- Of a webhook that is disabled nothing waits: it ends as any other attempt there.
    ELSIF p_outcome = 'delivered' THEN
        -- Not for each of them: the time is written to ten seconds.
        UPDATE webhooks w SET failing_since = NULL, last_delivered_at = clock_timestamp(),
            state = CASE w.state WHEN 'failing' THEN 'active' ELSE w.state END
            WHERE w.webhook_id = hook AND (w.failing_since IS NOT NULL OR w.last_delivered_at IS NULL
                OR w.last_delivered_at < clock_timestamp() - interval '10 seconds');
    ELSE
        UPDATE webhooks w SET failing_since = coalesce(w.failing_since, clock_timestamp()),
            state = CASE
                WHEN w.state = 'disabled' OR p_outcome = 'gone'
                    OR w.failing_since < clock_timestamp() - p_disable_after_ms * interval '1 millisecond' THEN 'disabled'
                WHEN p_outcome = 'failed' THEN 'failing'
                ELSE w.state END,
            disabled_reason = CASE
                WHEN w.state = 'disabled' THEN w.disabled_reason
                WHEN p_outcome = 'gone' THEN 'gone'
                WHEN w.failing_since < clock_timestamp() - p_disable_after_ms * interval '1 millisecond' THEN 'failing' END
            WHERE w.webhook_id = hook;
    END IF;
    SELECT w.state INTO now_state FROM webhooks w WHERE w.webhook_id = hook;
    UPDATE webhook_deliveries d SET last_status = p_status, last_error = p_error, last_ms = p_ms,
        state = CASE WHEN p_outcome = 'delivered' THEN 'delivered' WHEN p_outcome = 'waiting' AND now_state <> 'disabled' THEN 'waiting'
            ELSE 'failed' END,
        next_attempt_at = CASE WHEN p_outcome = 'waiting' AND now_state <> 'disabled'
            THEN clock_timestamp() + p_pause_ms * interval '1 millisecond' END,
        finished_at = CASE WHEN p_outcome = 'waiting' AND now_state <> 'disabled' THEN NULL ELSE clock_timestamp() END
        WHERE d.delivery_id = p_delivery AND d.attempts = p_attempt AND d.state = 'sending';
    IF NOT FOUND THEN
        RETURN 'lost';
    END IF;
    IF now_state = 'disabled' THEN
        UPDATE webhook_deliveries d SET state = 'failed', next_attempt_at = NULL, finished_at = clock_timestamp(),
            last_error = 'webhook_disabled'
            WHERE d.webhook_id = hook AND d.state = 'waiting';
    END IF;
    RETURN now_state;
END
$$;

-- Until when an operator can give a dead job further attempts: as long its payload is kept, and no longer.
ALTER TABLE jobs ADD COLUMN dead_until timestamptz;
CREATE INDEX jobs_dead_until ON jobs (dead_until) WHERE is_dead;

-- How long the payload of a dead job is kept: it is a prompt, and the tenant says what is kept of those.
CREATE FUNCTION dead_job_ttl(p_tenant uuid) RETURNS interval
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
    SELECT CASE (SELECT t.retention FROM tenants t WHERE t.tenant_id = p_tenant)
        WHEN 'full' THEN interval '7 days' WHEN 'hashed' THEN interval '24 hours' ELSE interval '1 hour' END
    $$;

CREATE FUNCTION time_dead_job() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
BEGIN
    NEW.dead_until := CASE WHEN NEW.is_dead THEN NEW.ended_at + dead_job_ttl(NEW.tenant_id) END;
    IF NEW.is_dead THEN
        -- What became of it is told for a day, as of any other that failed.
        NEW.expires_at := greatest(NEW.dead_until, NEW.ended_at + interval '24 hours');
    END IF;
    RETURN NEW;
END
$$;
UPDATE jobs j SET dead_until = j.ended_at + dead_job_ttl(j.tenant_id) WHERE j.is_dead;
ALTER TABLE jobs ADD CONSTRAINT jobs_dead_until_check CHECK (is_dead = (dead_until IS NOT NULL));
CREATE TRIGGER jobs_dead_are_timed BEFORE UPDATE OF is_dead ON jobs FOR EACH ROW
    WHEN (NEW.is_dead <> OLD.is_dead) EXECUTE FUNCTION time_dead_job();

-- Removes jobs whose results are past their end, and before that the payloads of dead ones whose time is over, at most p_limit of each. Their requests
-- stay. Answers how many jobs or payloads, whichever were more.
CREATE OR REPLACE FUNCTION remove_expired_jobs(p_limit integer) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
DECLARE
    payloads integer;
    jobs_removed integer;
BEGIN
    WITH old AS MATERIALIZED (
        SELECT j.job_id FROM jobs j WHERE j.is_dead AND j.dead_until <= clock_timestamp()
        ORDER BY j.dead_until LIMIT p_limit FOR UPDATE SKIP LOCKED
    )
    UPDATE jobs j SET is_dead = false, payload = NULL FROM old WHERE j.job_id = old.job_id;
    GET DIAGNOSTICS payloads = ROW_COUNT;
    WITH old AS MATERIALIZED (
        SELECT j.job_id FROM jobs j WHERE j.expires_at <= clock_timestamp() ORDER BY j.expires_at LIMIT p_limit FOR UPDATE SKIP LOCKED
    )
    DELETE FROM jobs j USING old WHERE j.job_id = old.job_id;
    GET DIAGNOSTICS jobs_removed = ROW_COUNT;
    RETURN greatest(payloads, jobs_removed);
END
$$;

-- Erases what a dead job of a tenant would need to run again. Answers whether it was dead.
CREATE FUNCTION forget_dead_job(p_tenant uuid, p_job uuid) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
BEGIN
    UPDATE jobs j SET is_dead = false, payload = NULL WHERE j.job_id = p_job AND j.tenant_id = p_tenant AND j.is_dead;
    RETURN FOUND;
END
$$;

-- When the content of a file was whole.
ALTER TABLE files ADD COLUMN completed_at timestamptz;
UPDATE files SET completed_at = created_at WHERE is_complete;

-- What a file of a batch is, a prompt or a result, is kept as long as the tenant says. Who keeps all has them for 30 days. Who does not has an input for a
-- day, and longer only as long as a batch reads it, and an output for as long as the result of a job.
CREATE FUNCTION time_file() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
DECLARE
    keeps_all boolean;
BEGIN
    SELECT t.retention = 'full' INTO keeps_all FROM tenants t WHERE t.tenant_id = NEW.tenant_id;
    IF TG_OP = 'INSERT' THEN
        IF NOT keeps_all AND NEW.purpose = 'batch' THEN
            NEW.expires_at := least(NEW.expires_at, NEW.created_at + interval '24 hours');
        END IF;
        RETURN NEW;
    END IF;
    NEW.completed_at := clock_timestamp();
    IF NEW.purpose = 'batch_output' THEN
        NEW.expires_at := clock_timestamp() + CASE WHEN keeps_all THEN interval '30 days'
            ELSE least(result_ttl(NEW.tenant_id), interval '30 days') END;
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER files_are_timed BEFORE INSERT ON files FOR EACH ROW EXECUTE FUNCTION time_file();
CREATE TRIGGER complete_files_are_timed BEFORE UPDATE OF is_complete ON files FOR EACH ROW
    WHEN (NEW.is_complete AND NOT OLD.is_complete) EXECUTE FUNCTION time_file();

-- As before, and files of batches, and lines of batches that are collected. A dead job is no longer one: nothing is left that could run again.
CREATE OR REPLACE FUNCTION erase_kept(p_limit integer) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
DECLARE
    erasure retention_erasures;
    looked integer;
    last uuid;
BEGIN
    SELECT * INTO erasure FROM retention_erasures WHERE finished_at IS NULL AND due_at <= clock_timestamp()
        ORDER BY due_at LIMIT 1 FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN 0;
    END IF;
    WITH old AS MATERIALIZED (
        SELECT result_id FROM results WHERE tenant_id = erasure.tenant_id AND generation < erasure.generation
        LIMIT p_limit FOR UPDATE SKIP LOCKED
    )
    DELETE FROM results r USING old WHERE r.result_id = old.result_id;
    GET DIAGNOSTICS looked = ROW_COUNT;
    IF looked > 0 THEN
        RETURN looked;
    END IF;
    WITH old AS MATERIALIZED (
        SELECT result_id FROM binary_results WHERE tenant_id = erasure.tenant_id AND generation < erasure.generation
        LIMIT p_limit FOR UPDATE SKIP LOCKED
    )
    DELETE FROM binary_results r USING old WHERE r.result_id = old.result_id;
    GET DIAGNOSTICS looked = ROW_COUNT;
    IF looked > 0 THEN
        RETURN looked;
    END IF;
    -- Of jobs that have ended, the answer is a result, and what is left of a dead one's payload is a prompt. A line of a batch has to be collected
    -- before; its row stays as long as the batch needs it.
    WITH old AS MATERIALIZED (
        SELECT j.job_id FROM jobs j WHERE j.tenant_id = erasure.tenant_id AND j.ended_at < erasure.asked_at
            AND (j.payload IS NOT NULL OR octet_length(j.answer) > 0)
            AND NOT EXISTS (SELECT FROM batches b WHERE b.batch_id = j.batch_id AND b.collected_to < j.job_id
                AND b.state IN ('validating', 'in_progress', 'finalizing', 'cancelling'))
        LIMIT p_limit FOR UPDATE SKIP LOCKED
    )
    UPDATE jobs j SET answer = CASE WHEN state = 'completed' THEN ''::bytea END, payload = NULL, is_dead = false,
        expires_at = clock_timestamp()
        FROM old WHERE j.job_id = old.job_id;
    GET DIAGNOSTICS looked = ROW_COUNT;
    IF looked > 0 THEN
        RETURN looked;
    END IF;
    -- Outputs are results; an input that a batch has read to its end is of no more use. Each file can be large.
    WITH old AS MATERIALIZED (
        SELECT f.file_id FROM files f WHERE f.tenant_id = erasure.tenant_id AND f.is_complete AND f.completed_at < erasure.asked_at
            AND (f.purpose = 'batch_output' OR EXISTS (SELECT FROM batches b WHERE b.input_file_id = f.file_id)
                OR f.created_at < clock_timestamp() - interval '24 hours')
            AND NOT EXISTS (SELECT FROM batches b WHERE b.input_file_id = f.file_id
                AND b.state IN ('validating', 'in_progress', 'finalizing', 'cancelling'))
        LIMIT least(p_limit, 20) FOR UPDATE SKIP LOCKED
    )
    DELETE FROM files f USING old WHERE f.file_id = old.file_id;
    GET DIAGNOSTICS looked = ROW_COUNT;
    IF looked > 0 THEN
        RETURN looked;
    END IF;
    -- The inputs that are left wait for a batch, or a batch reads them.
    WITH late AS MATERIALIZED (
        SELECT f.file_id FROM files f WHERE f.tenant_id = erasure.tenant_id AND f.purpose = 'batch'
            AND f.expires_at > f.created_at + interval '24 hours' AND f.created_at < erasure.asked_at + interval '5 seconds'
        LIMIT p_limit FOR UPDATE SKIP LOCKED
    )
    UPDATE files f SET expires_at = f.created_at + interval '24 hours' FROM late WHERE f.file_id = late.file_id;
    GET DIAGNOSTICS looked = ROW_COUNT;
    IF looked > 0 THEN
        RETURN looked;
    END IF;
    WITH page AS MATERIALIZED (
        SELECT request_id FROM requests
        WHERE tenant_id = erasure.tenant_id AND request_id > erasure.position
            AND request_id < uuid_lower_bound(erasure.asked_at + interval '5 seconds')
        ORDER BY request_id NULLS FIRST LIMIT p_limit
    ), erased AS (
        UPDATE requests r SET prompt = NULL,
            prompt_sha256 = CASE WHEN erasure.policy = 'hashed'
                THEN coalesce(r.prompt_sha256, sha256(convert_to(r.prompt, 'UTF8'))) END,
            result_sha256 = CASE WHEN erasure.policy = 'hashed' THEN r.result_sha256 END
        FROM page
        WHERE r.request_id = page.request_id AND (r.prompt IS NOT NULL
            OR erasure.policy = 'none' AND (r.prompt_sha256 IS NOT NULL OR r.result_sha256 IS NOT NULL))
    )
    SELECT count(*), (array_agg(request_id ORDER BY request_id DESC))[1] INTO looked, last FROM page;
    IF looked > 0 THEN
        UPDATE retention_erasures SET position = last WHERE tenant_id = erasure.tenant_id;
        RETURN looked;
    END IF;
    -- A request that was under way had begun under the old policy; no request takes longer than this, and no job waits longer than a week.
    UPDATE retention_erasures SET
        pass = 2,
        position = uuid_lower_bound(erasure.asked_at - interval '9 days'),
        due_at = erasure.asked_at + interval '15 minutes',
        finished_at = CASE WHEN erasure.pass = 2 THEN clock_timestamp() END
        WHERE tenant_id = erasure.tenant_id;
    RETURN 1;
END
$$;

-- Files of one tenant, of which there are so many that a batch can have its outputs. Two uploads at once wait for each other, or both would
-- find the last place. Answers whether there was one.
CREATE FUNCTION begin_upload(p_file uuid, p_tenant uuid, p_filename text, p_limit integer) RETURNS boolean
    LANGUAGE plpgsql
    AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('weir.files ' || p_tenant, 0));
    IF (SELECT count(*) FROM files f WHERE f.tenant_id = p_tenant) >= p_limit THEN
        RETURN false;
    END IF;
    INSERT INTO files (file_id, tenant_id, purpose, filename, expires_at)
        VALUES (p_file, p_tenant, 'batch', p_filename, clock_timestamp() + interval '30 days');
    RETURN true;
END
$$;

-- As before. Pieces of one tenant's uploads are added one after the other, or each would be measured without the others.
CREATE OR REPLACE FUNCTION append_upload(p_file uuid, p_tenant uuid, p_position integer, p_content bytea, p_limit bigint) RETURNS text
    LANGUAGE plpgsql
    AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('weir.files ' || p_tenant, 0));
    IF (SELECT coalesce(sum(f.bytes), 0) FROM files f WHERE f.tenant_id = p_tenant) + length(p_content) > p_limit THEN
        RETURN 'full';
    END IF;
    UPDATE files f SET bytes = f.bytes + length(p_content) WHERE f.file_id = p_file AND f.tenant_id = p_tenant AND NOT f.is_complete;
    IF NOT FOUND THEN
        RETURN 'unknown';
    END IF;
    INSERT INTO file_chunks (file_id, position, tenant_id, content) VALUES (p_file, p_position, p_tenant, p_content);
    RETURN 'kept';
END
$$;

REVOKE ALL ON FUNCTION dead_job_ttl, time_dead_job, forget_dead_job, time_file, begin_upload FROM PUBLIC;
GRANT EXECUTE ON FUNCTION forget_dead_job TO weir_writer;
GRANT EXECUTE ON FUNCTION begin_upload TO weir_customer;
