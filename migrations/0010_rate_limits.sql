-- How fast a tenant or a key may go: requests and tokens per minute with a burst, and requests under way at once. A tier says it for its
-- subscribers; a subscription and a key may say otherwise. An override without an amount lifts the limit.
--
-- Gateways keep these in memory with the key, as they do with quotas; what is used of them is counted in Redis, never here.
CREATE TABLE tier_rate_limits (
    tier_version_id  uuid NOT NULL REFERENCES tier_versions,
    scope            text NOT NULL CHECK (scope IN ('tenant', 'key')),
    unit             text NOT NULL CHECK (unit IN ('requests', 'tokens', 'concurrency')),
    amount           bigint NOT NULL CHECK (amount BETWEEN 0 AND 1000000000000),
    burst            bigint CHECK (burst BETWEEN 1 AND 1000000000000),
    PRIMARY KEY (tier_version_id, scope, unit),
    CHECK (unit <> 'concurrency' OR burst IS NULL)
);
CREATE TRIGGER tier_rate_limits_immutable BEFORE INSERT OR UPDATE OR DELETE ON tier_rate_limits
    FOR EACH ROW EXECUTE FUNCTION refuse_change_of_published_tier();
CREATE TRIGGER tier_rate_limits_stay BEFORE TRUNCATE ON tier_rate_limits
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_published_tier();

-- Ends with its subscription: a tenant that changes its tier begins with that tier's limits.
CREATE TABLE subscription_rate_limits (
    subscription_id  uuid NOT NULL REFERENCES subscriptions,
    tenant_id        uuid NOT NULL REFERENCES tenants,
    scope            text NOT NULL CHECK (scope IN ('tenant', 'key')),
    unit             text NOT NULL CHECK (unit IN ('requests', 'tokens', 'concurrency')),
    amount           bigint CHECK (amount BETWEEN 0 AND 1000000000000),
    burst            bigint CHECK (burst BETWEEN 1 AND 1000000000000),
    PRIMARY KEY (subscription_id, scope, unit),
    CHECK (burst IS NULL OR unit <> 'concurrency' AND amount IS NOT NULL)
);
CREATE TRIGGER subscription_rate_limits_changed AFTER INSERT OR UPDATE OR DELETE ON subscription_rate_limits
    FOR EACH STATEMENT EXECUTE FUNCTION advance_control_generation();

CREATE TABLE key_rate_limits (
    key_id     uuid NOT NULL REFERENCES api_keys,
    tenant_id  uuid NOT NULL REFERENCES tenants,
    unit       text NOT NULL CHECK (unit IN ('requests', 'tokens', 'concurrency')),
    amount     bigint CHECK (amount BETWEEN 0 AND 1000000000000),
    burst      bigint CHECK (burst BETWEEN 1 AND 1000000000000),
    PRIMARY KEY (key_id, unit),
    CHECK (burst IS NULL OR unit <> 'concurrency' AND amount IS NOT NULL)
);
CREATE TRIGGER key_rate_limits_changed AFTER INSERT OR UPDATE OR DELETE ON key_rate_limits
    FOR EACH STATEMENT EXECUTE FUNCTION advance_control_generation();

-- The limits in force for a key: its own, else its subscription's, else its tier's. One row for each that there is.
CREATE FUNCTION rate_limits_in_force(p_key uuid, p_subscription uuid, p_tier_version uuid)
    RETURNS TABLE (scope text, unit text, amount bigint, burst bigint)
    LANGUAGE sql STABLE
    AS $$
        SELECT c.scope, c.unit, c.amount, c.burst
        FROM (
            SELECT DISTINCT ON (s.scope, s.unit) s.scope, s.unit, s.amount, s.burst
            FROM (
                SELECT 'key' AS scope, k.unit, k.amount, k.burst, 1 AS rank FROM key_rate_limits k WHERE k.key_id = p_key
                UNION ALL
                SELECT o.scope, o.unit, o.amount, o.burst, 2 FROM subscription_rate_limits o WHERE o.subscription_id = p_subscription
                UNION ALL
                SELECT t.scope, t.unit, t.amount, t.burst, 3 FROM tier_rate_limits t WHERE t.tier_version_id = p_tier_version
            ) s
            ORDER BY s.scope, s.unit, s.rank
        ) c
        WHERE c.amount IS NOT NULL
    $$;

ALTER TABLE subscription_rate_limits ENABLE ROW LEVEL SECURITY;
ALTER TABLE key_rate_limits ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_rows ON subscription_rate_limits FOR SELECT TO weir_reader USING (tenant_id = (SELECT current_tenant()));
CREATE POLICY own_rows ON key_rate_limits FOR SELECT TO weir_reader USING (tenant_id = (SELECT current_tenant()));
CREATE POLICY all_rows ON subscription_rate_limits FOR SELECT TO weir_directory, weir_reports USING (true);
CREATE POLICY all_rows ON key_rate_limits FOR SELECT TO weir_directory, weir_reports USING (true);
CREATE POLICY administration ON subscription_rate_limits TO weir_admin USING (true) WITH CHECK (true);
CREATE POLICY administration ON key_rate_limits TO weir_admin USING (true) WITH CHECK (true);

GRANT SELECT ON tier_rate_limits, subscription_rate_limits, key_rate_limits TO weir_directory, weir_reports, weir_reader;
GRANT SELECT, INSERT, UPDATE, DELETE ON tier_rate_limits, subscription_rate_limits, key_rate_limits TO weir_admin;
