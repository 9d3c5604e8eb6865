-- draft
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

GRANT SELECT ON tier_price_bands, tier_multipliers TO weir_directory, weir_reports, weir_jobs, weir_reader, weir_admin;
GRANT INSERT, UPDATE, DELETE ON tier_price_bands, tier_multipliers TO weir_admin;
