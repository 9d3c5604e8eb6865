-- Quotas of users and keys beside those of tenants, periods that begin with a subscription, and leases that grow and shrink in place.
ALTER TABLE quotas
    ADD COLUMN user_id uuid REFERENCES users,
    ADD COLUMN key_id uuid REFERENCES api_keys,
    ADD COLUMN anchor timestamptz,
    -- What an administrator has set stays as it is when the tenant's tier changes.
    ADD COLUMN origin text NOT NULL DEFAULT 'tier' CHECK (origin IN ('tier', 'override')),
    DROP CONSTRAINT quotas_tenant_id_unit_frequency_key,
    ADD CONSTRAINT quotas_of_one_holder CHECK (user_id IS NULL OR key_id IS NULL),
    ADD CONSTRAINT quotas_once UNIQUE NULLS NOT DISTINCT (tenant_id, user_id, key_id, unit, frequency);

ALTER TABLE tier_quotas
    ADD COLUMN alignment text NOT NULL DEFAULT 'calendar' CHECK (alignment IN ('calendar', 'subscription'));

-- More than a quota's amount in the periods that begin within this stretch of time. A raise ends by itself.
CREATE TABLE quota_raises (
    raise_id    uuid PRIMARY KEY,
    quota_id    uuid NOT NULL REFERENCES quotas,
    tenant_id   uuid NOT NULL,
    amount      bigint NOT NULL CHECK (amount > 0),
    starts_at   timestamptz NOT NULL,
    ends_at     timestamptz NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    CHECK (ends_at > starts_at)
);
CREATE INDEX quota_raises_of_quota ON quota_raises (quota_id, ends_at);
CREATE TRIGGER quota_raises_changed AFTER INSERT OR UPDATE OR DELETE ON quota_raises
    FOR EACH STATEMENT EXECUTE FUNCTION advance_control_generation();

-- What a quota allows in the period that begins at this instant.
CREATE FUNCTION quota_limit(p_quota uuid, p_amount bigint, p_instant timestamptz) RETURNS bigint
    LANGUAGE sql STABLE PARALLEL SAFE
    AS $$
    SELECT least(p_amount + coalesce(sum(r.amount), 0), 9223372036854775807)::bigint
    FROM quota_raises r WHERE r.quota_id = p_quota AND r.starts_at <= p_instant AND r.ends_at > p_instant
$$;

ALTER TABLE quota_raises ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_rows ON quota_raises FOR SELECT TO weir_reader USING (tenant_id = (SELECT current_tenant()));
CREATE POLICY all_rows ON quota_raises FOR SELECT TO weir_writer, weir_directory, weir_reports USING (true);
CREATE POLICY administration ON quota_raises TO weir_admin USING (true) WITH CHECK (true);
GRANT SELECT ON quota_raises TO weir_writer, weir_directory, weir_reader, weir_reports;
GRANT SELECT, INSERT ON quota_raises TO weir_admin;

-- When the reaper may try a lease that it could not book, and how often it has tried.
ALTER TABLE quota_leases
    ADD COLUMN reap_after timestamptz,
    ADD COLUMN reap_attempts integer NOT NULL DEFAULT 0;

-- Makes slices of open leases of a gateway smaller by what the gateway has stopped admitting from. A lease that was closed meanwhile has
-- given everything back already.
-- Leases are locked before periods, and both in the order of their keys, as everywhere.
CREATE FUNCTION return_slices(p_gateway uuid, p_leases uuid[], p_quotas uuid[], p_amounts bigint[]) RETURNS void
    LANGUAGE plpgsql
    AS $$
BEGIN
    PERFORM FROM quota_leases l WHERE l.lease_id = ANY (p_leases) ORDER BY l.lease_id FOR UPDATE;
    PERFORM FROM quota_periods p
        WHERE (p.quota_id, p.period_start) IN (
            SELECT s.quota_id, s.period_start FROM quota_lease_slices s
            JOIN unnest(p_leases, p_quotas) AS r (lease_id, quota_id) USING (lease_id, quota_id))
        ORDER BY p.quota_id, p.period_start FOR UPDATE;
    WITH given AS (
        UPDATE quota_lease_slices s SET granted = s.granted - r.amount
        FROM unnest(p_leases, p_quotas, p_amounts) AS r (lease_id, quota_id, amount)
        JOIN quota_leases l ON l.lease_id = r.lease_id AND l.gateway_id = p_gateway AND l.state = 'open'
        WHERE s.lease_id = r.lease_id AND s.quota_id = r.quota_id
        RETURNING s.quota_id, s.period_start, r.amount
    )
    UPDATE quota_periods p SET held = p.held - g.amount
        FROM (SELECT quota_id, period_start, sum(amount)::bigint AS amount FROM given GROUP BY 1, 2) g
        WHERE p.quota_id = g.quota_id AND p.period_start = g.period_start;
END
$$;

-- Takes units of several quotas at once, or of none: into a new lease, or more of what an open one has slices of. Before that it gives
-- back what the gateway returns, whatever becomes of the rest; so a request is refused only if the quota has no room even then.
--
-- The bounds of the periods come from the caller, whose calendar is the only one. If they do not contain the database's time, give or take
-- what two clocks may differ by, the caller's clock is wrong and nothing is taken: it must not open a period early, nor reopen a past one.
--
-- More than the minimum is at most a quarter of what is left, so near the limit a lease grows by what one request lacks and the last unit
-- can be had from any gateway. A soft quota is granted whatever is asked.
--
-- outcome: 'granted', a row for each quota; 'refused', the numbers of the quota that refused; 'lost', the lease to grow is not open;
-- 'elsewhen', the periods are not now. "at" is the database's time.
-- acquire_lease stays for gateways of the release before this one.
CREATE FUNCTION take_lease(
    p_lease uuid, p_is_new boolean, p_tenant uuid, p_gateway uuid, p_lifetime_ms bigint, p_quotas uuid[], p_starts timestamptz[],
    p_ends timestamptz[], p_minimums bigint[], p_wanted bigint[], p_returned_leases uuid[], p_returned_quotas uuid[],
    p_returned_amounts bigint[]
) RETURNS TABLE (outcome text, quota uuid, granted bigint, amount bigint, settled bigint, held bigint, at timestamptz)
    LANGUAGE plpgsql
    AS $$
DECLARE
    entry record;
    room bigint;
    found_quotas integer := 0;
    quotas_in_order uuid[] := '{}';
    starts_in_order timestamptz[] := '{}';
    slices bigint[] := '{}';
    limits bigint[] := '{}';
    settled_before bigint[] := '{}';
    held_before bigint[] := '{}';
BEGIN
    IF EXISTS (SELECT FROM unnest(p_starts, p_ends) AS w (period_start, period_end)
        WHERE clock_timestamp() + interval '2 seconds' < w.period_start OR clock_timestamp() - interval '2 seconds' >= w.period_end) THEN
        RETURN QUERY SELECT 'elsewhen', NULL::uuid, NULL::bigint, NULL::bigint, NULL::bigint, NULL::bigint, clock_timestamp();
        RETURN;
    END IF;
    PERFORM FROM quota_leases l WHERE l.lease_id = ANY (p_returned_leases || p_lease) ORDER BY l.lease_id FOR UPDATE;
    IF NOT p_is_new AND NOT EXISTS (SELECT FROM quota_leases l WHERE l.lease_id = p_lease AND l.gateway_id = p_gateway
        AND l.tenant_id = p_tenant AND l.state = 'open' AND l.expires_at > clock_timestamp()) THEN
        RETURN QUERY SELECT 'lost', NULL::uuid, NULL::bigint, NULL::bigint, NULL::bigint, NULL::bigint, clock_timestamp();
        RETURN;
    END IF;
    INSERT INTO quota_periods AS p (quota_id, period_start, period_end, tenant_id)
        SELECT w.quota_id, w.period_start, w.period_end, p_tenant
        FROM unnest(p_quotas, p_starts, p_ends) AS w (quota_id, period_start, period_end)
        ORDER BY w.quota_id
        ON CONFLICT DO NOTHING;
    PERFORM FROM quota_periods p
        WHERE (p.quota_id, p.period_start) IN (
            SELECT * FROM unnest(p_quotas, p_starts)
            UNION ALL
            SELECT s.quota_id, s.period_start FROM quota_lease_slices s
            JOIN unnest(p_returned_leases, p_returned_quotas) AS r (lease_id, quota_id) USING (lease_id, quota_id))
        ORDER BY p.quota_id, p.period_start FOR UPDATE;
    IF cardinality(p_returned_leases) > 0 THEN
        PERFORM return_slices(p_gateway, p_returned_leases, p_returned_quotas, p_returned_amounts);
    END IF;
    FOR entry IN
        SELECT p.quota_id, p.period_start, p.settled, p.held, quota_limit(q.quota_id, q.amount, p.period_start) AS amount, q.mode,
            w.minimum, w.wanted
        FROM unnest(p_quotas, p_starts, p_minimums, p_wanted) AS w (quota_id, period_start, minimum, wanted)
        JOIN quota_periods p ON p.quota_id = w.quota_id AND p.period_start = w.period_start
        JOIN quotas q ON q.quota_id = p.quota_id AND q.tenant_id = p_tenant
        ORDER BY p.quota_id
    LOOP
        found_quotas := found_quotas + 1;
        room := entry.amount - entry.settled - entry.held;
        IF entry.mode = 'hard' AND room < entry.minimum THEN
            RETURN QUERY SELECT 'refused', entry.quota_id, NULL::bigint, entry.amount, entry.settled, entry.held, clock_timestamp();
            RETURN;
        END IF;
        quotas_in_order := quotas_in_order || entry.quota_id;
        starts_in_order := starts_in_order || entry.period_start;
        slices := slices || greatest(entry.minimum, CASE entry.mode WHEN 'hard' THEN least(entry.wanted, room / 4) ELSE entry.wanted END);
        limits := limits || entry.amount;
        settled_before := settled_before || entry.settled;
        held_before := held_before || entry.held;
    END LOOP;
    IF found_quotas <> cardinality(p_quotas) THEN
        RAISE EXCEPTION 'a quota of the lease does not exist' USING ERRCODE = 'foreign_key_violation';
    END IF;
    UPDATE quota_periods p SET held = p.held + s.slice
        FROM unnest(quotas_in_order, starts_in_order, slices) AS s (quota_id, period_start, slice)
        WHERE p.quota_id = s.quota_id AND p.period_start = s.period_start;
    IF p_is_new THEN
        INSERT INTO quota_leases (lease_id, tenant_id, gateway_id, expires_at)
            VALUES (p_lease, p_tenant, p_gateway, clock_timestamp() + p_lifetime_ms * interval '1 millisecond');
        INSERT INTO quota_lease_slices (lease_id, quota_id, period_start, granted)
            SELECT p_lease, s.quota_id, s.period_start, s.slice
            FROM unnest(quotas_in_order, starts_in_order, slices) AS s (quota_id, period_start, slice);
    ELSE
        UPDATE quota_lease_slices o SET granted = o.granted + s.slice
            FROM unnest(quotas_in_order, starts_in_order, slices) AS s (quota_id, period_start, slice)
            WHERE o.lease_id = p_lease AND o.quota_id = s.quota_id AND o.period_start = s.period_start;
        GET DIAGNOSTICS found_quotas = ROW_COUNT;
        -- What a lease has not counted from its beginning it must not count at all: its closing sums all that was spent on it.
        IF found_quotas <> cardinality(p_quotas) THEN
            RAISE EXCEPTION 'the lease has no slice of a quota' USING ERRCODE = 'foreign_key_violation';
        END IF;
    END IF;
    RETURN QUERY SELECT 'granted', s.quota_id, s.slice, s.amount, s.settled, s.held, clock_timestamp()
        FROM unnest(quotas_in_order, slices, limits, settled_before, held_before)
            AS s (quota_id, slice, amount, settled, held);
END
$$;

-- Chooses a lease that its owner let expire, and puts it off: a lease that cannot be booked, for whatever reason, comes again later and
-- does not stand in the way of the others. Each attempt is put off for twice as long as the one before, up to about a minute.
-- To be committed before reap_lease(uuid).
CREATE FUNCTION claim_overdue_lease() RETURNS SETOF uuid
    LANGUAGE sql
    AS $$
    UPDATE quota_leases SET reap_attempts = reap_attempts + 1,
        reap_after = clock_timestamp() + (1 << least(reap_attempts, 6)) * interval '1 second'
    WHERE lease_id = (
        SELECT l.lease_id FROM quota_leases l
        WHERE l.state = 'open' AND l.expires_at < clock_timestamp() AND (l.reap_after IS NULL OR l.reap_after < clock_timestamp())
        ORDER BY l.expires_at LIMIT 1 FOR UPDATE SKIP LOCKED)
    RETURNING lease_id
$$;

-- Closes one lease that is overdue. Waits until no settlement of its gateway is under way; a later one sees the lease expired.
-- Answers the lease, or nothing if it is not overdue any more.
CREATE FUNCTION reap_lease(p_lease uuid) RETURNS SETOF uuid
    LANGUAGE plpgsql
    AS $$
DECLARE
    overdue record;
BEGIN
    SELECT l.lease_id, l.gateway_id INTO overdue FROM quota_leases l
        WHERE l.lease_id = p_lease AND l.state = 'open' AND l.expires_at < clock_timestamp() FOR UPDATE;
    IF FOUND THEN
        PERFORM pg_advisory_xact_lock(gateway_lock(overdue.gateway_id));
        PERFORM book_lease(overdue.lease_id);
        RETURN NEXT overdue.lease_id;
    END IF;
END
$$;
