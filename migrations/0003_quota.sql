-- Quotas, their periods, and the leases by which gateways spend them.
--
-- For every hard quota, at every instant: settled + held <= amount. What is held is the sum of the slices of open leases. A lease is
-- closed by summing the ledger entries that name it; the ledger is the truth and no counter runs beside it.
CREATE TABLE quotas (
    quota_id    uuid PRIMARY KEY,
    tenant_id   uuid NOT NULL REFERENCES tenants,
    unit        text NOT NULL CHECK (unit IN ('requests', 'tokens')),
    frequency   text NOT NULL
        CHECK (frequency IN ('minute', 'hour', 'day', 'week', 'month', 'quarter', 'year', 'none')),
    amount      bigint NOT NULL CHECK (amount >= 0),
    mode        text NOT NULL DEFAULT 'hard' CHECK (mode IN ('hard', 'soft')),
    created_at  timestamptz NOT NULL DEFAULT now(),
    UNIQUE (tenant_id, unit, frequency)
);
CREATE TRIGGER quotas_changed AFTER INSERT OR UPDATE OR DELETE ON quotas
    FOR EACH STATEMENT EXECUTE FUNCTION advance_control_generation();

CREATE TABLE quota_periods (
    quota_id      uuid NOT NULL REFERENCES quotas,
    period_start  timestamptz NOT NULL,
    period_end    timestamptz NOT NULL,
    tenant_id     uuid NOT NULL,
    settled       bigint NOT NULL DEFAULT 0 CHECK (settled >= 0),
    held          bigint NOT NULL DEFAULT 0 CHECK (held >= 0),
    PRIMARY KEY (quota_id, period_start),
    CHECK (period_end > period_start)
);

CREATE TABLE quota_leases (
    lease_id    uuid PRIMARY KEY,
    tenant_id   uuid NOT NULL,
    gateway_id  uuid NOT NULL,
    state       text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'closed')),
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at  timestamptz NOT NULL,
    closed_at   timestamptz,
    CHECK ((state = 'closed') = (closed_at IS NOT NULL))
);
CREATE INDEX quota_leases_open ON quota_leases (expires_at) WHERE state = 'open';
CREATE INDEX quota_leases_of_tenant ON quota_leases (tenant_id) WHERE state = 'open';

CREATE TABLE quota_lease_slices (
    lease_id      uuid NOT NULL REFERENCES quota_leases,
    quota_id      uuid NOT NULL,
    period_start  timestamptz NOT NULL,
    granted       bigint NOT NULL CHECK (granted >= 0),
    spent         bigint CHECK (spent >= 0),
    PRIMARY KEY (lease_id, quota_id),
    FOREIGN KEY (quota_id, period_start) REFERENCES quota_periods
);

-- Every settlement of a gateway holds this lock shared; whoever closes a lease of the gateway takes it alone, and so sums the ledger when no
-- settlement of that gateway is under way. A settlement that is sent again takes it alone as well, so that its first sending has ended.
-- The low half of a UUIDv7 is random.
CREATE FUNCTION gateway_lock(gateway uuid) RETURNS bigint
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    AS $$ SELECT ('x' || right(replace(gateway::text, '-', ''), 16))::bit(64)::bigint $$;

-- Takes slices of several quotas at once, or of none.
--
-- The rows are locked in the order of their key, so that two gateways cannot wait for each other. A slice is at most a quarter of what is
-- left: near the limit slices shrink to what one request needs, and the last unit can be had from any gateway. A soft quota is granted
-- whatever is asked.
-- Answers one row per quota with what was granted; if any quota refuses, its numbers alone, with granted NULL, and nothing is taken.
CREATE FUNCTION acquire_lease(
    p_lease uuid, p_tenant uuid, p_gateway uuid, p_lifetime_ms bigint, p_quotas uuid[], p_starts timestamptz[],
    p_ends timestamptz[], p_minimums bigint[], p_wanted bigint[]
) RETURNS TABLE (quota uuid, granted bigint, amount bigint, settled bigint, held bigint)
    LANGUAGE plpgsql
    AS $$
DECLARE
    entry record;
    room bigint;
    slices bigint[] := '{}';
    quotas_in_order uuid[] := '{}';
    starts_in_order timestamptz[] := '{}';
    limits bigint[] := '{}';
    settled_before bigint[] := '{}';
    held_before bigint[] := '{}';
BEGIN
    INSERT INTO quota_periods AS p (quota_id, period_start, period_end, tenant_id)
        SELECT w.quota_id, w.period_start, w.period_end, p_tenant
        FROM unnest(p_quotas, p_starts, p_ends) AS w (quota_id, period_start, period_end)
        ORDER BY w.quota_id
        ON CONFLICT DO NOTHING;
    FOR entry IN
        SELECT p.quota_id, p.period_start, p.settled, p.held, q.amount, q.mode, w.minimum, w.wanted
        FROM unnest(p_quotas, p_starts, p_minimums, p_wanted) AS w (quota_id, period_start, minimum, wanted)
        JOIN quota_periods p ON p.quota_id = w.quota_id AND p.period_start = w.period_start
        JOIN quotas q ON q.quota_id = p.quota_id AND q.tenant_id = p_tenant
        ORDER BY p.quota_id
        FOR UPDATE OF p
    LOOP
        room := entry.amount - entry.settled - entry.held;
        IF entry.mode = 'hard' AND room < entry.minimum THEN
            RETURN QUERY SELECT entry.quota_id, NULL::bigint, entry.amount, entry.settled, entry.held;
            RETURN;
        END IF;
        quotas_in_order := quotas_in_order || entry.quota_id;
        starts_in_order := starts_in_order || entry.period_start;
        slices := slices || greatest(entry.minimum, CASE entry.mode WHEN 'soft' THEN entry.wanted ELSE least(entry.wanted, room / 4) END);
        limits := limits || entry.amount;
        settled_before := settled_before || entry.settled;
        held_before := held_before || entry.held;
    END LOOP;
    IF cardinality(quotas_in_order) <> cardinality(p_quotas) THEN
        RAISE EXCEPTION 'a quota of the lease does not exist' USING ERRCODE = 'foreign_key_violation';
    END IF;
    UPDATE quota_periods p SET held = p.held + s.slice
        FROM unnest(quotas_in_order, starts_in_order, slices) AS s (quota_id, period_start, slice)
        WHERE p.quota_id = s.quota_id AND p.period_start = s.period_start;
    INSERT INTO quota_leases (lease_id, tenant_id, gateway_id, expires_at)
        VALUES (p_lease, p_tenant, p_gateway, clock_timestamp() + p_lifetime_ms * interval '1 millisecond');
    INSERT INTO quota_lease_slices (lease_id, quota_id, period_start, granted)
        SELECT p_lease, s.quota_id, s.period_start, s.slice
        FROM unnest(quotas_in_order, starts_in_order, slices) AS s (quota_id, period_start, slice);
    RETURN QUERY SELECT s.quota_id, s.slice, s.amount, s.settled, s.held
        FROM unnest(quotas_in_order, slices, limits, settled_before, held_before)
            AS s (quota_id, slice, amount, settled, held);
END
$$;

-- Books one open lease: what the ledger says was spent on it is settled, the rest of its slices is free again.
-- The caller has made sure that no settlement on it is under way, and that none can begin.
CREATE FUNCTION book_lease(p_lease uuid) RETURNS void
    LANGUAGE plpgsql
    AS $$
BEGIN
    UPDATE quota_lease_slices s SET spent = u.spent
        FROM (
            SELECT q.quota_id, coalesce(CASE q.unit WHEN 'requests' THEN sum(e.requests)
                ELSE sum(e.input_tokens + e.output_tokens) END, 0)::bigint AS spent
            FROM quota_lease_slices o
            JOIN quotas q ON q.quota_id = o.quota_id
            LEFT JOIN ledger e ON e.lease_id = o.lease_id
            WHERE o.lease_id = p_lease
            GROUP BY q.quota_id
        ) u
        WHERE s.lease_id = p_lease AND s.quota_id = u.quota_id;
    PERFORM 1 FROM quota_periods p JOIN quota_lease_slices s USING (quota_id, period_start)
        WHERE s.lease_id = p_lease ORDER BY p.quota_id FOR UPDATE OF p;
    UPDATE quota_periods p SET held = p.held - s.granted, settled = p.settled + s.spent
        FROM quota_lease_slices s
        WHERE s.lease_id = p_lease AND p.quota_id = s.quota_id AND p.period_start = s.period_start;
    UPDATE quota_leases SET state = 'closed', closed_at = clock_timestamp() WHERE lease_id = p_lease;
END
$$;

-- A gateway gives leases back on which it has nothing in flight. That it has stopped waiting for a settlement does not mean that the server
-- has stopped working on it, so this waits until none of that gateway is under way.
-- The periods of all the leases are locked first and in order, so that two gateways cannot wait for each other.
CREATE FUNCTION close_leases(p_gateway uuid, p_leases uuid[]) RETURNS integer
    LANGUAGE plpgsql
    AS $$
DECLARE
    leases uuid[];
    lease uuid;
BEGIN
    leases := ARRAY(SELECT l.lease_id FROM quota_leases l
        WHERE l.lease_id = ANY (p_leases) AND l.gateway_id = p_gateway AND l.state = 'open' ORDER BY l.lease_id FOR UPDATE);
    IF cardinality(leases) = 0 THEN
        RETURN 0;
    END IF;
    PERFORM pg_advisory_xact_lock(gateway_lock(p_gateway));
    PERFORM FROM quota_periods p
        WHERE (p.quota_id, p.period_start) IN (
            SELECT s.quota_id, s.period_start FROM quota_lease_slices s WHERE s.lease_id = ANY (leases))
        ORDER BY p.quota_id, p.period_start FOR UPDATE;
    FOREACH lease IN ARRAY leases LOOP
        PERFORM book_lease(lease);
    END LOOP;
    RETURN cardinality(leases);
END
$$;

-- Closes one lease whose owner let it expire. Waits until no settlement of that gateway is under way; a later one sees the lease expired.
-- Answers the lease, or nothing when no lease is overdue.
CREATE FUNCTION reap_lease() RETURNS SETOF uuid
    LANGUAGE plpgsql
    AS $$
DECLARE
    overdue record;
BEGIN
    SELECT l.lease_id, l.gateway_id INTO overdue FROM quota_leases l
        WHERE l.state = 'open' AND l.expires_at < clock_timestamp()
        ORDER BY l.expires_at LIMIT 1 FOR UPDATE SKIP LOCKED;
    IF FOUND THEN
        PERFORM pg_advisory_xact_lock(gateway_lock(overdue.gateway_id));
        PERFORM book_lease(overdue.lease_id);
        RETURN NEXT overdue.lease_id;
    END IF;
END
$$;

ALTER TABLE quotas ENABLE ROW LEVEL SECURITY;
ALTER TABLE quota_periods ENABLE ROW LEVEL SECURITY;
ALTER TABLE quota_leases ENABLE ROW LEVEL SECURITY;
ALTER TABLE quota_lease_slices ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_rows ON quotas FOR SELECT TO weir_reader USING (tenant_id = (SELECT current_tenant()));
CREATE POLICY own_rows ON quota_periods FOR SELECT TO weir_reader USING (tenant_id = (SELECT current_tenant()));
CREATE POLICY own_rows ON quota_leases FOR SELECT TO weir_reader USING (tenant_id = (SELECT current_tenant()));
-- Seen through the lease: its own policy decides.
CREATE POLICY own_rows ON quota_lease_slices FOR SELECT TO weir_reader
    USING (EXISTS (SELECT FROM quota_leases l WHERE l.lease_id = quota_lease_slices.lease_id));
CREATE POLICY leasing ON quotas FOR SELECT TO weir_writer, weir_directory, weir_jobs, weir_reports USING (true);
CREATE POLICY leasing ON quota_periods TO weir_writer, weir_jobs USING (true) WITH CHECK (true);
CREATE POLICY leasing ON quota_leases TO weir_writer, weir_jobs USING (true) WITH CHECK (true);
CREATE POLICY leasing ON quota_lease_slices TO weir_writer, weir_jobs USING (true) WITH CHECK (true);
CREATE POLICY administration ON quota_lease_slices FOR SELECT TO weir_admin, weir_reports USING (true);
CREATE POLICY administration ON quotas TO weir_admin USING (true) WITH CHECK (true);
CREATE POLICY administration ON quota_periods FOR SELECT TO weir_admin, weir_reports USING (true);
CREATE POLICY administration ON quota_leases FOR SELECT TO weir_admin, weir_reports USING (true);

GRANT SELECT ON quotas TO weir_writer, weir_directory, weir_jobs, weir_reports, weir_reader;
GRANT SELECT, INSERT, UPDATE ON quota_periods, quota_leases, quota_lease_slices TO weir_writer, weir_jobs;
GRANT SELECT ON quota_periods, quota_leases, quota_lease_slices TO weir_reader, weir_admin, weir_reports;
GRANT SELECT, INSERT, UPDATE ON quotas TO weir_admin;
