-- What a tier's price can be made of beyond a price for each unit: bands, packages, included amounts, a minimum, models that count more than
-- others, a trial; tiers of one tenant alone; and the instant from which a version is sold.

-- A tier of one tenant holds prices that were agreed with it; nobody else can subscribe to it or see it.
ALTER TABLE tiers ADD COLUMN tenant_id uuid REFERENCES tenants;

ALTER TABLE tier_versions
    ADD COLUMN minimum_commitment_micros bigint NOT NULL DEFAULT 0 CHECK (minimum_commitment_micros >= 0),
    ADD COLUMN included_requests bigint NOT NULL DEFAULT 0 CHECK (included_requests BETWEEN 0 AND 1000000000000000),
    ADD COLUMN included_tokens bigint NOT NULL DEFAULT 0 CHECK (included_tokens BETWEEN 0 AND 1000000000000000),
    ADD COLUMN trial_days integer NOT NULL DEFAULT 0 CHECK (trial_days BETWEEN 0 AND 366),
    -- From when a published version is given to those who subscribe; those who have an earlier one keep it until they are moved.
    ADD COLUMN effective_at timestamptz;

-- flat: unit_price for each unit. graduated: each unit at the price of the band that it falls in. volume: all units at the price of the band
-- that the whole quantity falls in. package: unit_price for each begun package of package_size units.
ALTER TABLE tier_prices
    ADD COLUMN price_model text NOT NULL DEFAULT 'flat' CHECK (price_model IN ('flat', 'graduated', 'volume', 'package')),
    ADD COLUMN package_size bigint CHECK (package_size BETWEEN 1 AND 1000000000000000),
    ADD CONSTRAINT tier_prices_package CHECK ((price_model = 'package') = (package_size IS NOT NULL)),
    -- The price of a banded meter is in its bands.
    ADD CONSTRAINT tier_prices_bands CHECK (price_model IN ('flat', 'package') OR unit_price = 0);

-- Bands of a price, numbered from 1, each beyond the one before; the last has no end.
CREATE TABLE tier_price_bands (
    tier_version_id  uuid NOT NULL,
    meter            text NOT NULL,
    model            text NOT NULL,
    band             smallint NOT NULL CHECK (band BETWEEN 1 AND 100),
    up_to            bigint CHECK (up_to BETWEEN 1 AND 1000000000000000),
    unit_price       numeric(19, 12) NOT NULL CHECK (unit_price >= 0),
    PRIMARY KEY (tier_version_id, meter, model, band),
    FOREIGN KEY (tier_version_id, meter, model) REFERENCES tier_prices ON DELETE CASCADE
);

-- A unit of this model counts as so many units, against included amounts, bands and prices alike. A model without a row counts once.
CREATE TABLE tier_multipliers (
    tier_version_id  uuid NOT NULL REFERENCES tier_versions,
    meter            text NOT NULL CHECK (meter IN ('input_token', 'cached_input_token', 'output_token')),
    model            text NOT NULL CHECK (model <> '*'),
    multiplier       numeric(9, 6) NOT NULL CHECK (multiplier > 0 AND multiplier <= 1000),
    PRIMARY KEY (tier_version_id, meter, model)
);

CREATE TRIGGER tier_price_bands_immutable BEFORE INSERT OR UPDATE OR DELETE ON tier_price_bands
    FOR EACH ROW EXECUTE FUNCTION refuse_change_of_published_tier();
CREATE TRIGGER tier_multipliers_immutable BEFORE INSERT OR UPDATE OR DELETE ON tier_multipliers
    FOR EACH ROW EXECUTE FUNCTION refuse_change_of_published_tier();
CREATE TRIGGER tier_price_bands_stay BEFORE TRUNCATE ON tier_price_bands
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_published_tier();
CREATE TRIGGER tier_multipliers_stay BEFORE TRUNCATE ON tier_multipliers
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_published_tier();

-- A tier of another tenant does not exist for a customer, nor do its versions.
ALTER TABLE tiers ENABLE ROW LEVEL SECURITY;
ALTER TABLE tier_versions ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_rows ON tiers FOR SELECT TO weir_reader USING (tenant_id IS NULL OR tenant_id = (SELECT current_tenant()));
CREATE POLICY own_rows ON tier_versions FOR SELECT TO weir_reader USING (EXISTS (SELECT FROM tiers t WHERE t.code = tier_code));
CREATE POLICY all_rows ON tiers FOR SELECT TO weir_directory, weir_reports, weir_jobs USING (true);
CREATE POLICY all_rows ON tier_versions FOR SELECT TO weir_directory, weir_reports, weir_jobs, weir_writer USING (true);
CREATE POLICY administration ON tiers TO weir_admin USING (true) WITH CHECK (true);
CREATE POLICY administration ON tier_versions TO weir_admin USING (true) WITH CHECK (true);

-- Each version with all of its parts. Amounts that are not there are -1. Whoever reads it sees what the tables let that role see.
CREATE VIEW tier_offers WITH (security_invoker = true) AS
SELECT t.code, t.name, t.tenant_id, t.created_at AS tier_created_at, v.tier_version_id, v.version, v.state, v.currency,
    v.base_fee_micros, v.minimum_commitment_micros, v.included_requests, v.included_tokens, v.trial_days, v.effective_at,
    v.cache_hit_token_percent, v.stream_leave, v.result_ttl_seconds, v.created_at, v.published_at,
    p.meters, p.models, p.price_models, p.unit_prices, p.package_sizes,
    b.meters AS band_meters, b.models AS band_models, b.up_to AS band_ends, b.unit_prices AS band_prices,
    m.meters AS multiplier_meters, m.models AS multiplier_models, m.multipliers,
    q.units AS quota_units, q.frequencies, q.amounts AS quota_amounts, q.modes, q.alignments, q.thresholds,
    l.scopes, l.units AS limit_units, l.amounts AS limit_amounts, l.bursts
FROM tier_versions v
JOIN tiers t ON t.code = v.tier_code
CROSS JOIN LATERAL (
    SELECT coalesce(array_agg(meter ORDER BY meter, model), '{}') AS meters,
        coalesce(array_agg(model ORDER BY meter, model), '{}') AS models,
        coalesce(array_agg(price_model ORDER BY meter, model), '{}') AS price_models,
        coalesce(array_agg(unit_price::text ORDER BY meter, model), '{}') AS unit_prices,
        coalesce(array_agg(coalesce(package_size, -1) ORDER BY meter, model), '{}') AS package_sizes
    FROM tier_prices WHERE tier_version_id = v.tier_version_id
) p
CROSS JOIN LATERAL (
    SELECT coalesce(array_agg(meter ORDER BY meter, model, band), '{}') AS meters,
        coalesce(array_agg(model ORDER BY meter, model, band), '{}') AS models,
        coalesce(array_agg(coalesce(up_to, -1) ORDER BY meter, model, band), '{}') AS up_to,
        coalesce(array_agg(unit_price::text ORDER BY meter, model, band), '{}') AS unit_prices
    FROM tier_price_bands WHERE tier_version_id = v.tier_version_id
) b
CROSS JOIN LATERAL (
    SELECT coalesce(array_agg(meter ORDER BY meter, model), '{}') AS meters,
        coalesce(array_agg(model ORDER BY meter, model), '{}') AS models,
        coalesce(array_agg(multiplier::text ORDER BY meter, model), '{}') AS multipliers
    FROM tier_multipliers WHERE tier_version_id = v.tier_version_id
) m
CROSS JOIN LATERAL (
    SELECT coalesce(array_agg(unit ORDER BY unit, frequency), '{}') AS units,
        coalesce(array_agg(frequency ORDER BY unit, frequency), '{}') AS frequencies,
        coalesce(array_agg(amount ORDER BY unit, frequency), '{}') AS amounts,
        coalesce(array_agg(mode ORDER BY unit, frequency), '{}') AS modes,
        coalesce(array_agg(alignment ORDER BY unit, frequency), '{}') AS alignments,
        coalesce(array_agg(array_to_string(thresholds_percent, ',') ORDER BY unit, frequency), '{}') AS thresholds
    FROM tier_quotas WHERE tier_version_id = v.tier_version_id
) q
CROSS JOIN LATERAL (
    SELECT coalesce(array_agg(scope ORDER BY scope, unit), '{}') AS scopes,
        coalesce(array_agg(unit ORDER BY scope, unit), '{}') AS units,
        coalesce(array_agg(coalesce(amount, -1) ORDER BY scope, unit), '{}') AS amounts,
        coalesce(array_agg(coalesce(burst, -1) ORDER BY scope, unit), '{}') AS bursts
    FROM tier_rate_limits WHERE tier_version_id = v.tier_version_id
) l;

-- The version that who subscribes to a tier now is given.
CREATE FUNCTION tier_version_in_force(p_code text) RETURNS uuid
    LANGUAGE sql STABLE
    AS $$
    SELECT tier_version_id FROM tier_versions
    WHERE tier_code = p_code AND state = 'published' AND coalesce(effective_at, published_at) <= clock_timestamp()
    ORDER BY version DESC LIMIT 1
    $$;

GRANT SELECT ON tier_offers TO weir_directory, weir_reports, weir_reader, weir_admin;
GRANT DELETE ON tier_versions TO weir_admin;
GRANT SELECT ON tier_price_bands, tier_multipliers TO weir_directory, weir_reports, weir_jobs, weir_reader, weir_admin;
GRANT INSERT, UPDATE, DELETE ON tier_price_bands, tier_multipliers TO weir_admin;

-- Replays of a draft over past usage: what publishing a draft that moves a price far asks for.

-- What a version says, in one text: a draft that changes has another one.
CREATE FUNCTION tier_version_fingerprint(p_id uuid) RETURNS text
    LANGUAGE sql STABLE
    AS $$
    SELECT encode(sha256(convert_to((to_jsonb(o) - ARRAY['state', 'published_at', 'created_at', 'tier_created_at', 'name'])::text, 'UTF8')), 'hex')
    FROM tier_offers o WHERE o.tier_version_id = p_id
    $$;

CREATE TABLE tier_replays (
    replay_id        uuid PRIMARY KEY,
    tier_version_id  uuid NOT NULL,
    -- Of the version as it was replayed.
    fingerprint      text NOT NULL CHECK (fingerprint ~ '^[0-9a-f]{64}$'),
    -- Of the fingerprint and the whole result.
    digest           text NOT NULL CHECK (digest ~ '^[0-9a-f]{64}$'),
    result           jsonb NOT NULL,
    actor            text NOT NULL CHECK (length(actor) BETWEEN 1 AND 200),
    created_at       timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX tier_replays_of_version ON tier_replays (tier_version_id, digest);
CREATE TRIGGER tier_replays_are_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON tier_replays
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

ALTER TABLE tier_replays ENABLE ROW LEVEL SECURITY;
CREATE POLICY administration ON tier_replays TO weir_admin USING (true) WITH CHECK (true);
GRANT SELECT, INSERT ON tier_replays TO weir_admin;
