-- Requests, their results, and the ledger.
--
-- Requests and ledger are partitioned by month, by range of their UUIDv7 key: it is ordered by time, so the primary key stays globally
-- unique and a look-up by id touches one partition.
CREATE TABLE requests (
    request_id        uuid NOT NULL,
    tenant_id         uuid NOT NULL,
    user_id           uuid,
    key_id            uuid NOT NULL,
    gateway_id        uuid,
    model             text NOT NULL,
    model_version     text NOT NULL DEFAULT '',
    status            text NOT NULL
        CHECK (status IN ('queued', 'processing', 'completed', 'failed', 'cancelled', 'expired')),
    http_status       smallint,
    error_code        text,
    created_at        timestamptz NOT NULL,
    completed_at      timestamptz,
    processing_us     bigint CHECK (processing_us >= 0),
    estimated_tokens  bigint CHECK (estimated_tokens >= 0),
    input_tokens      bigint CHECK (input_tokens >= 0),
    output_tokens     bigint CHECK (output_tokens >= 0),
    tier_version_id   uuid,
    cached            boolean NOT NULL DEFAULT false,
    prompt            text,
    prompt_sha256     bytea CHECK (length(prompt_sha256) = 32),
    result_id         uuid,
    PRIMARY KEY (request_id),
    CONSTRAINT requests_state CHECK (
        CASE status
            WHEN 'queued' THEN completed_at IS NULL AND error_code IS NULL
            WHEN 'processing' THEN completed_at IS NULL AND error_code IS NULL
            WHEN 'completed' THEN completed_at IS NOT NULL AND error_code IS NULL
            WHEN 'failed' THEN completed_at IS NOT NULL AND error_code IS NOT NULL
            ELSE completed_at IS NOT NULL
        END)
) PARTITION BY RANGE (request_id);
CREATE INDEX requests_by_tenant ON requests (tenant_id, request_id);

CREATE TABLE results (
    result_id    uuid PRIMARY KEY,
    tenant_id    uuid NOT NULL,
    content      text NOT NULL,
    token_count  bigint,
    created_at   timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE binary_results (
    result_id   uuid PRIMARY KEY,
    tenant_id   uuid NOT NULL,
    content     bytea NOT NULL,
    mime_type   text NOT NULL CHECK (length(mime_type) BETWEEN 1 AND 100),
    created_at  timestamptz NOT NULL DEFAULT now()
);

-- One entry per answered request, and one per correction. Quantities and the price version, no amounts: these are rated from them.
--
-- A usage entry's key is the request's, so that a request cannot be posted twice. tx is the transaction that wrote the entry: the roll-up
-- reads all entries below the oldest running transaction, so that its watermark cannot skip a late commit.
CREATE TABLE ledger (
    entry_id             uuid NOT NULL,
    tenant_id            uuid NOT NULL,
    user_id              uuid,
    key_id               uuid NOT NULL,
    request_id           uuid NOT NULL,
    kind                 text NOT NULL CHECK (kind IN ('usage', 'correction')),
    model                text NOT NULL,
    model_version        text NOT NULL DEFAULT '',
    tier_version_id      uuid NOT NULL,
    lease_id             uuid,
    requests             bigint NOT NULL,
    input_tokens         bigint NOT NULL,
    cached_input_tokens  bigint NOT NULL,
    output_tokens        bigint NOT NULL,
    token_source         text NOT NULL CHECK (token_source IN ('worker', 'counted', 'fixed', 'estimated', 'cache')),
    occurred_at          timestamptz NOT NULL,
    posted_at            timestamptz NOT NULL DEFAULT clock_timestamp(),
    tx                   xid8 NOT NULL DEFAULT pg_current_xact_id(),
    PRIMARY KEY (entry_id),
    -- Far above any model, and low enough that the sums of the roll-up and of a lease cannot overflow: one that does would stop them.
    CHECK (abs(requests) <= 1000000000000 AND abs(input_tokens) <= 1000000000000 AND abs(output_tokens) <= 1000000000000),
    CHECK (kind <> 'usage' OR (entry_id = request_id AND requests = 1 AND input_tokens >= 0 AND output_tokens >= 0
        AND cached_input_tokens BETWEEN 0 AND input_tokens))
) PARTITION BY RANGE (entry_id);
CREATE INDEX ledger_by_transaction ON ledger (tx);
CREATE INDEX ledger_by_lease ON ledger (lease_id) WHERE lease_id IS NOT NULL;

-- Append-only, also for those who could do otherwise: corrections are new entries. A trigger of the parent does not watch statements that
-- name a partition, so each partition has its own.
CREATE FUNCTION refuse_change() RETURNS trigger
    LANGUAGE plpgsql
    AS $$ BEGIN RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege'; END $$;
CREATE TRIGGER ledger_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- The smallest UUIDv7 of an instant.
CREATE FUNCTION uuid_lower_bound(instant timestamptz) RETURNS uuid
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    AS $$ SELECT (lpad(to_hex(floor(extract(epoch FROM instant) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid $$;

-- Makes the monthly partitions (UTC) from the month of p_from on, p_months of them. Partitions that are there are left alone, and a month
-- with rows in the default partition is passed over: its rows stay where they are, and the other months must not wait for that.
-- Runs with the owner's rights, because only the owner of a table may add a partition to it. A long report that reads the default partition
-- keeps it waiting, and whoever comes after it waits as well; so it does not wait for long.
CREATE FUNCTION ensure_partitions(p_from timestamptz, p_months integer) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp SET timezone = 'UTC' SET lock_timeout = '2s'
    AS $$
DECLARE
    parent text;
    first timestamptz;
    child text;
    made integer := 0;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('weir.ensure_partitions'));
    FOR month IN 0 .. p_months - 1 LOOP
        first := date_trunc('month', p_from) + make_interval(months => month);
        FOREACH parent IN ARRAY ARRAY['requests', 'ledger'] LOOP
            child := format('%s_y%sm%s', parent, to_char(first, 'YYYY'), to_char(first, 'MM'));
            IF to_regclass(child) IS NULL THEN
                BEGIN
                    EXECUTE format('CREATE TABLE %I PARTITION OF %I FOR VALUES FROM (%L) TO (%L)', child, parent,
                        uuid_lower_bound(first), uuid_lower_bound(first + interval '1 month'));
                    IF parent = 'ledger' THEN
                        EXECUTE format('CREATE TRIGGER is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON %I '
                            'FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()', child);
                    END IF;
                    made := made + 1;
                EXCEPTION WHEN check_violation THEN
                    RAISE WARNING '% cannot be made: the default partition holds rows of it', child;
                END;
            END IF;
        END LOOP;
    END LOOP;
    RETURN made;
END
$$;
REVOKE ALL ON FUNCTION ensure_partitions FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ensure_partitions TO weir_jobs, weir_admin;

-- Catches what no month holds; a row in here raises an alarm.
CREATE TABLE requests_default PARTITION OF requests DEFAULT;
CREATE TABLE ledger_default PARTITION OF ledger DEFAULT;
CREATE TRIGGER is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger_default
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
SELECT ensure_partitions(now() - interval '1 month', 5);

ALTER TABLE requests ENABLE ROW LEVEL SECURITY;
ALTER TABLE results ENABLE ROW LEVEL SECURITY;
ALTER TABLE binary_results ENABLE ROW LEVEL SECURITY;
ALTER TABLE ledger ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_rows ON requests FOR SELECT TO weir_reader USING (tenant_id = (SELECT current_tenant()));
CREATE POLICY own_rows ON results FOR SELECT TO weir_reader USING (tenant_id = (SELECT current_tenant()));
CREATE POLICY own_rows ON binary_results FOR SELECT TO weir_reader USING (tenant_id = (SELECT current_tenant()));
CREATE POLICY own_rows ON ledger FOR SELECT TO weir_reader USING (tenant_id = (SELECT current_tenant()));
CREATE POLICY settlement ON requests FOR INSERT TO weir_writer WITH CHECK (true);
CREATE POLICY settlement ON results FOR INSERT TO weir_writer WITH CHECK (true);
CREATE POLICY settlement ON ledger FOR INSERT TO weir_writer WITH CHECK (true);
-- ON CONFLICT and the fence have to see which keys are there; the grants below show the writer no other column.
CREATE POLICY settled_keys ON requests FOR SELECT TO weir_writer USING (true);
CREATE POLICY settled_keys ON results FOR SELECT TO weir_writer USING (true);
CREATE POLICY settled_keys ON ledger FOR SELECT TO weir_writer USING (true);
CREATE POLICY all_rows ON requests FOR SELECT TO weir_admin, weir_reports USING (true);
CREATE POLICY all_rows ON ledger FOR SELECT TO weir_jobs, weir_admin, weir_reports USING (true);

GRANT INSERT ON requests, results, ledger TO weir_writer;
GRANT SELECT (request_id) ON requests TO weir_writer;
GRANT SELECT (result_id) ON results TO weir_writer;
GRANT SELECT (entry_id, lease_id, requests, input_tokens, output_tokens) ON ledger TO weir_writer;
GRANT SELECT ON requests, results, binary_results, ledger TO weir_reader;
GRANT SELECT ON ledger TO weir_jobs, weir_admin, weir_reports;
-- All but what the customer sent.
GRANT SELECT (request_id, tenant_id, user_id, key_id, gateway_id, model, model_version, status, http_status, error_code, created_at,
    completed_at, processing_us, estimated_tokens, input_tokens, output_tokens, tier_version_id, cached, result_id)
    ON requests TO weir_admin, weir_reports;
GRANT SELECT (request_id) ON requests_default TO weir_jobs, weir_admin;
GRANT SELECT ON ledger_default TO weir_jobs, weir_admin;
