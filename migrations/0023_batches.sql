-- Files of JSON Lines, kept in pieces; batches, each of which runs the lines of a file as jobs; and the events of both for webhooks.
CREATE TABLE files (
    file_id      uuid PRIMARY KEY,
    tenant_id    uuid NOT NULL REFERENCES tenants,
    purpose      text NOT NULL CHECK (purpose IN ('batch', 'batch_output')),
    filename     text NOT NULL CHECK (length(filename) BETWEEN 1 AND 255),
    bytes        bigint NOT NULL DEFAULT 0 CHECK (bytes >= 0),
    -- An upload that never ends, or the output of a batch that has not ended, is not shown.
    is_complete  boolean NOT NULL DEFAULT false,
    created_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at   timestamptz NOT NULL
);
CREATE INDEX files_of_tenant ON files (tenant_id, file_id);
CREATE INDEX files_by_end ON files (expires_at);

CREATE TABLE file_chunks (
    file_id    uuid NOT NULL REFERENCES files ON DELETE CASCADE,
    position   integer NOT NULL CHECK (position >= 0),
    tenant_id  uuid NOT NULL,
    -- Not compressed here: what is read and written once need not be.
    content    bytea NOT NULL CHECK (length(content) BETWEEN 1 AND 16777216),
    PRIMARY KEY (file_id, position)
);
ALTER TABLE file_chunks ALTER COLUMN content SET STORAGE EXTERNAL;

CREATE TABLE batches (
    batch_id          uuid PRIMARY KEY,
    tenant_id         uuid NOT NULL REFERENCES tenants,
    user_id           uuid,
    key_id            uuid NOT NULL,
    endpoint          text NOT NULL CHECK (endpoint IN ('/v1/chat/completions', '/v1/completions', '/v1/embeddings')),
    input_file_id     uuid NOT NULL,
    output_file_id    uuid,
    error_file_id     uuid,
    metadata          json NOT NULL DEFAULT '{}',
    state             text NOT NULL DEFAULT 'validating' CHECK (state IN ('validating', 'failed', 'in_progress', 'finalizing',
        'completed', 'expired', 'cancelling', 'cancelled')),
    -- What is wrong with the input, for a batch that failed.
    errors            json,
    total             integer NOT NULL DEFAULT 0 CHECK (total >= 0),
    -- Lines that were read for submission; and how many of them became no job, because the batch was at its end.
    read_lines        integer NOT NULL DEFAULT 0 CHECK (read_lines >= 0),
    skipped           integer NOT NULL DEFAULT 0 CHECK (skipped >= 0),
    -- Where reading goes on: the piece and the byte in it.
    read_position     integer NOT NULL DEFAULT 0,
    read_offset       integer NOT NULL DEFAULT 0,
    -- Jobs whose end is in one of the two files, and the last of them: they are collected in the order of the lines.
    collected         integer NOT NULL DEFAULT 0 CHECK (collected >= 0),
    collected_to      uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    completed         integer NOT NULL DEFAULT 0 CHECK (completed >= 0),
    failed            integer NOT NULL DEFAULT 0 CHECK (failed >= 0),
    input_tokens      bigint NOT NULL DEFAULT 0,
    cached_tokens     bigint NOT NULL DEFAULT 0,
    output_tokens     bigint NOT NULL DEFAULT 0,
    output_chunks     integer NOT NULL DEFAULT 0,
    error_chunks      integer NOT NULL DEFAULT 0,
    -- The number of the claim is the fence.
    claim             integer NOT NULL DEFAULT 0,
    due_at            timestamptz NOT NULL DEFAULT clock_timestamp(),
    created_at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at        timestamptz NOT NULL,
    in_progress_at    timestamptz,
    finalizing_at     timestamptz,
    completed_at      timestamptz,
    failed_at         timestamptz,
    expired_at        timestamptz,
    cancelling_at     timestamptz,
    cancelled_at      timestamptz,
    CHECK (collected + skipped <= total OR state = 'validating'),
    CHECK (completed + failed <= total OR state = 'validating')
);
CREATE INDEX batches_of_tenant ON batches (tenant_id, batch_id);
CREATE INDEX batches_due ON batches (due_at) WHERE state IN ('validating', 'in_progress', 'finalizing', 'cancelling');
CREATE INDEX batches_by_input ON batches (input_file_id);

-- Adds a piece to an upload. Answers 'kept', 'unknown', or 'full' where the tenant's files would be larger than p_limit together.
CREATE FUNCTION append_upload(p_file uuid, p_tenant uuid, p_position integer, p_content bytea, p_limit bigint) RETURNS text
    LANGUAGE plpgsql
    AS $$
BEGIN
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

-- Takes a batch that is due, for p_lease_ms. Whoever comes after that takes it again under a higher number, and what the one before says is
-- refused.
CREATE FUNCTION claim_batch(p_lease_ms bigint) RETURNS SETOF batches
    LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
    UPDATE batches b SET claim = b.claim + 1, due_at = clock_timestamp() + p_lease_ms * interval '1 millisecond'
    WHERE b.batch_id = (
        SELECT d.batch_id FROM batches d
        WHERE d.state IN ('validating', 'in_progress', 'finalizing', 'cancelling') AND d.due_at <= clock_timestamp()
        ORDER BY d.due_at LIMIT 1 FOR UPDATE SKIP LOCKED)
    RETURNING b.*
    $$;

-- Keeps a claim, or gives it back where p_lease_ms is short. Answers whether it still held, and the state.
CREATE FUNCTION hold_batch(p_batch uuid, p_claim integer, p_lease_ms bigint) RETURNS text
    LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
    UPDATE batches b SET due_at = clock_timestamp() + p_lease_ms * interval '1 millisecond'
    WHERE b.batch_id = p_batch AND b.claim = p_claim RETURNING b.state
    $$;

-- A piece of the input of a batch; none behind the last one.
CREATE FUNCTION read_batch_input(p_batch uuid, p_position integer) RETURNS bytea
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
    SELECT c.content FROM batches b JOIN file_chunks c ON c.file_id = b.input_file_id AND c.position = p_position
    WHERE b.batch_id = p_batch AND b.tenant_id = c.tenant_id
    $$;

-- The input was read to its end: the batch runs, or it failed with p_errors.
CREATE FUNCTION finish_batch_validation(p_batch uuid, p_claim integer, p_total integer, p_errors text) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
BEGIN
    UPDATE batches b SET total = p_total, errors = p_errors::json, due_at = clock_timestamp(),
        state = CASE WHEN p_errors IS NULL THEN 'in_progress' ELSE 'failed' END,
        in_progress_at = CASE WHEN p_errors IS NULL THEN clock_timestamp() END,
        failed_at = CASE WHEN p_errors IS NOT NULL THEN clock_timestamp() END
    WHERE b.batch_id = p_batch AND b.claim = p_claim AND b.state = 'validating';
    RETURN FOUND;
END
$$;

-- Adds lines to the output or the errors of a batch whose row is locked. The file is made with the first of them.
CREATE FUNCTION append_batch_lines(p_batch uuid, p_is_error boolean, p_lines text) RETURNS void
    LANGUAGE plpgsql
    AS $$
DECLARE
    b batches%ROWTYPE;
    target uuid;
    place integer;
    content bytea := convert_to(p_lines, 'UTF8');
BEGIN
    SELECT * INTO b FROM batches WHERE batch_id = p_batch;
    target := CASE WHEN p_is_error THEN b.error_file_id ELSE b.output_file_id END;
    place := CASE WHEN p_is_error THEN b.error_chunks ELSE b.output_chunks END;
    IF target IS NULL THEN
        target := new_uuid7();
        INSERT INTO files (file_id, tenant_id, purpose, filename, expires_at) VALUES (target, b.tenant_id, 'batch_output',
            'batch_' || p_batch || CASE WHEN p_is_error THEN '_error.jsonl' ELSE '_output.jsonl' END, clock_timestamp() + interval '30 days');
    END IF;
    FOR piece IN 0 .. (length(content) - 1) / 4194304 LOOP
        INSERT INTO file_chunks (file_id, position, tenant_id, content)
            VALUES (target, place, b.tenant_id, substr(content, piece * 4194304 + 1, 4194304));
        place := place + 1;
    END LOOP;
    UPDATE files SET bytes = bytes + length(content) WHERE file_id = target;
    IF p_is_error THEN
        UPDATE batches SET error_file_id = target, error_chunks = place WHERE batch_id = p_batch;
    ELSE
        UPDATE batches SET output_file_id = target, output_chunks = place WHERE batch_id = p_batch;
    END IF;
END
$$;

-- Lines up to here were read: jobs were made of them, but for p_skipped, which are p_lines of the errors.
CREATE FUNCTION note_batch_reading(
    p_batch uuid, p_claim integer, p_read_lines integer, p_position integer, p_offset integer, p_skipped integer, p_lines text
) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
BEGIN
    UPDATE batches b SET read_lines = p_read_lines, read_position = p_position, read_offset = p_offset, skipped = b.skipped + p_skipped,
        failed = b.failed + p_skipped
    WHERE b.batch_id = p_batch AND b.claim = p_claim;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    IF p_skipped > 0 THEN
        PERFORM append_batch_lines(p_batch, true, p_lines);
    END IF;
    RETURN true;
END
$$;

-- Writes the ends of at most p_limit jobs into the two files, in the order of the lines, up to the first that has not ended; and ends the batch
-- when there are no more. Files, counts and the place up to which was collected change together, so a line is written once. Answers how many were
-- collected, or -1 where the claim is lost.
CREATE FUNCTION collect_batch(p_batch uuid, p_claim integer, p_limit integer) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
DECLARE
    b batches%ROWTYPE;
    output text;
    errors text;
    part record;
    ending text;
    is_over boolean;
BEGIN
    SELECT * INTO b FROM batches WHERE batch_id = p_batch AND claim = p_claim FOR UPDATE;
    IF NOT FOUND THEN
        RETURN -1;
    END IF;
    is_over := b.state <> 'cancelling' AND b.expires_at <= clock_timestamp();
    WITH next AS MATERIALIZED (
        SELECT j.job_id, j.custom_id, j.state, j.http_status, j.error_code, j.answer,
            count(*) FILTER (WHERE j.state IN ('queued', 'processing')) OVER (ORDER BY j.job_id) AS open_before,
            sum(coalesce(length(j.answer), 0)) OVER (ORDER BY j.job_id) - coalesce(length(j.answer), 0) AS bytes_before
        FROM (SELECT * FROM jobs q WHERE q.batch_id = p_batch AND q.job_id > b.collected_to ORDER BY q.job_id LIMIT p_limit) j
    ), ended AS MATERIALIZED (
        -- Of large answers fewer at once: what is built here stands in memory.
        SELECT n.*, l.input_tokens, l.cached_input_tokens, l.output_tokens FROM next n LEFT JOIN ledger l ON l.entry_id = n.job_id
        WHERE n.open_before = 0 AND n.bytes_before < 8388608
    )
    SELECT count(*)::integer AS jobs, (max(e.job_id::text))::uuid AS last, count(*) FILTER (WHERE e.state = 'completed')::integer AS completed,
        coalesce(sum(e.input_tokens), 0)::bigint AS input, coalesce(sum(e.cached_input_tokens), 0)::bigint AS cached,
        coalesce(sum(e.output_tokens), 0)::bigint AS produced,
        string_agg(CASE WHEN e.state = 'completed' THEN '{"id": ' || to_json('batch_req_' || e.job_id) || ', "custom_id": ' || to_json(e.custom_id)
            || ', "response": {"status_code": 200, "request_id": ' || to_json('req_' || e.job_id) || ', "body": '
            -- White space between tokens is all that a line feed can be in JSON.
            || translate(convert_from(e.answer, 'UTF8'), E'\r\n', '  ') || '}, "error": null}' || E'\n' END, '' ORDER BY e.job_id) AS output,
        string_agg(CASE
            WHEN e.state = 'failed' THEN '{"id": ' || to_json('batch_req_' || e.job_id) || ', "custom_id": ' || to_json(e.custom_id)
                || ', "response": {"status_code": ' || coalesce(e.http_status, 500) || ', "request_id": ' || to_json('req_' || e.job_id)
                || ', "body": {"error": {"message": ' || to_json('The request failed: ' || coalesce(e.error_code, 'internal_error'))
                || ', "type": ' || to_json(CASE WHEN coalesce(e.http_status, 500) < 500 THEN 'invalid_request_error' ELSE 'server_error' END::text)
                || ', "param": null, "code": ' || to_json(coalesce(e.error_code, 'internal_error')) || '}}}, "error": null}' || E'\n'
            WHEN e.state <> 'completed' THEN '{"id": ' || to_json('batch_req_' || e.job_id) || ', "custom_id": ' || to_json(e.custom_id)
                || ', "response": null, "error": {"code": ' || CASE WHEN is_over OR e.state = 'expired'
                    THEN '"batch_expired", "message": "The batch expired before this request was answered."}}'
                    ELSE '"batch_cancelled", "message": "This request was cancelled before it was answered."}}' END || E'\n' END,
            '' ORDER BY e.job_id) AS errors
    INTO part FROM ended e;
    IF part.jobs > 0 THEN
        UPDATE batches SET collected = collected + part.jobs, collected_to = part.last, completed = completed + part.completed,
            failed = failed + part.jobs - part.completed, input_tokens = input_tokens + part.input,
            cached_tokens = cached_tokens + part.cached, output_tokens = output_tokens + part.produced
            WHERE batch_id = p_batch;
        IF part.output IS NOT NULL THEN
            PERFORM append_batch_lines(p_batch, false, part.output);
        END IF;
        IF part.errors IS NOT NULL THEN
            PERFORM append_batch_lines(p_batch, true, part.errors);
        END IF;
    END IF;
    IF b.collected + part.jobs + b.skipped = b.total AND b.state IN ('in_progress', 'finalizing', 'cancelling') THEN
        ending := CASE WHEN b.state = 'cancelling' THEN 'cancelled' WHEN is_over AND (b.skipped > 0
                OR EXISTS (SELECT FROM jobs j WHERE j.batch_id = p_batch AND j.state IN ('cancelled', 'expired'))) THEN 'expired'
            ELSE 'completed' END;
        UPDATE files SET is_complete = true WHERE file_id IN (SELECT unnest(ARRAY[output_file_id, error_file_id]) FROM batches WHERE batch_id = p_batch);
        UPDATE batches SET state = ending, finalizing_at = CASE WHEN ending = 'completed' THEN clock_timestamp() END,
            completed_at = CASE WHEN ending = 'completed' THEN clock_timestamp() END,
            expired_at = CASE WHEN ending = 'expired' THEN clock_timestamp() END,
            cancelled_at = CASE WHEN ending = 'cancelled' THEN clock_timestamp() END
            WHERE batch_id = p_batch;
    END IF;
    RETURN part.jobs;
END
$$;

-- Removes files that are past their end and uploads that nobody finished, at most p_limit of them. The input of a batch that runs stays.
CREATE FUNCTION remove_expired_files(p_limit integer) RETURNS integer
    LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
    WITH old AS MATERIALIZED (
        SELECT f.file_id FROM files f
        WHERE (f.expires_at <= clock_timestamp()
                OR NOT f.is_complete AND f.purpose = 'batch' AND f.created_at < clock_timestamp() - interval '1 hour')
            AND NOT EXISTS (SELECT FROM batches b WHERE b.input_file_id = f.file_id
                AND b.state IN ('validating', 'in_progress', 'finalizing', 'cancelling'))
        ORDER BY f.expires_at LIMIT p_limit FOR UPDATE SKIP LOCKED
    ), removed AS (
        DELETE FROM files f USING old WHERE f.file_id = old.file_id RETURNING 1
    )
    SELECT count(*)::integer FROM removed
    $$;
REVOKE ALL ON FUNCTION claim_batch, hold_batch, read_batch_input, finish_batch_validation, append_batch_lines, note_batch_reading, collect_batch,
    remove_expired_files FROM PUBLIC;
GRANT EXECUTE ON FUNCTION claim_batch, hold_batch, read_batch_input, finish_batch_validation, note_batch_reading, collect_batch TO weir_writer;
GRANT EXECUTE ON FUNCTION remove_expired_files TO weir_jobs;

-- What is left of a job of a batch stays until it is surely collected.
CREATE FUNCTION keep_batch_job() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    NEW.expires_at := greatest(NEW.expires_at, NEW.ended_at + interval '72 hours');
    RETURN NEW;
END
$$;
CREATE TRIGGER jobs_of_batches_stay BEFORE UPDATE OF ended_at ON jobs FOR EACH ROW
    WHEN (NEW.batch_id IS NOT NULL AND NEW.ended_at IS NOT NULL AND OLD.ended_at IS NULL) EXECUTE FUNCTION keep_batch_job();

-- A job that came alone has ended. Those of a batch are told of by the batch.
CREATE FUNCTION tell_of_job() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
BEGIN
    PERFORM raise_webhook_event(NEW.tenant_id, new_uuid7(), 'job.' || NEW.state, NEW.ended_at, json_build_object(
        'object', 'job', 'request_id', 'req_' || NEW.job_id, 'status', NEW.state, 'model', NEW.model, 'error_code', NEW.error_code,
        'created_at', rfc3339(NEW.created_at), 'completed_at', rfc3339(NEW.ended_at)));
    RETURN NULL;
END
$$;
REVOKE ALL ON FUNCTION tell_of_job FROM PUBLIC;
CREATE TRIGGER jobs_are_told AFTER UPDATE OF state ON jobs FOR EACH ROW
    WHEN (NEW.batch_id IS NULL AND NEW.ended_at IS NOT NULL AND OLD.ended_at IS NULL) EXECUTE FUNCTION tell_of_job();

CREATE FUNCTION tell_of_batch() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
BEGIN
    PERFORM raise_webhook_event(NEW.tenant_id, new_uuid7(), 'batch.' || NEW.state, clock_timestamp(), json_build_object(
        'object', 'batch', 'id', 'batch_' || NEW.batch_id, 'status', NEW.state, 'request_counts',
        json_build_object('total', NEW.total, 'completed', NEW.completed, 'failed', NEW.failed)));
    RETURN NULL;
END
$$;
REVOKE ALL ON FUNCTION tell_of_batch FROM PUBLIC;
CREATE TRIGGER batches_are_told AFTER UPDATE OF state ON batches FOR EACH ROW
    WHEN (NEW.state IN ('completed', 'failed', 'expired', 'cancelled') AND OLD.state IS DISTINCT FROM NEW.state)
    EXECUTE FUNCTION tell_of_batch();

ALTER TABLE files ENABLE ROW LEVEL SECURITY;
ALTER TABLE file_chunks ENABLE ROW LEVEL SECURITY;
ALTER TABLE batches ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_rows ON files TO weir_customer
    USING (tenant_id = (SELECT current_tenant())) WITH CHECK (tenant_id = (SELECT current_tenant()));
CREATE POLICY own_rows ON file_chunks TO weir_customer
    USING (tenant_id = (SELECT current_tenant())) WITH CHECK (tenant_id = (SELECT current_tenant()));
CREATE POLICY own_rows ON batches TO weir_customer
    USING (tenant_id = (SELECT current_tenant())) WITH CHECK (tenant_id = (SELECT current_tenant()));
GRANT SELECT, INSERT, DELETE, UPDATE (bytes, is_complete) ON files TO weir_customer;
GRANT SELECT, INSERT ON file_chunks TO weir_customer;
GRANT SELECT, INSERT, UPDATE (state, cancelling_at, due_at) ON batches TO weir_customer;
