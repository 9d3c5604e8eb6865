-- Who is on what for which span, what was granted, and what was invoiced.

-- The trial's end lies on an edge of usage, so that what it made free can be told from what it did not.
ALTER TABLE subscriptions
    ADD COLUMN trial_ends_at timestamptz,
    ADD CONSTRAINT subscriptions_trial CHECK (trial_ends_at IS NULL OR trial_ends_at = usage_bucket(trial_ends_at));

-- A prepaid tenant is served while its balance is above zero: what is left of its credits less what its open periods have accrued. A job
-- compares, and says here what came out; admission reads it.
ALTER TABLE tenants
    ADD COLUMN prepaid boolean NOT NULL DEFAULT false,
    ADD COLUMN is_exhausted boolean NOT NULL DEFAULT false,
    ADD CONSTRAINT tenants_exhausted CHECK (prepaid OR NOT is_exhausted);

-- A change of tier that is due later. A tenant has one at most; another takes its place.
CREATE TABLE subscription_changes (
    change_id        uuid PRIMARY KEY,
    tenant_id        uuid NOT NULL REFERENCES tenants,
    tier_version_id  uuid NOT NULL REFERENCES tier_versions,
    due_at           timestamptz NOT NULL,
    state            text NOT NULL DEFAULT 'scheduled' CHECK (state IN ('scheduled', 'applied', 'cancelled')),
    created_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended_at         timestamptz,
    CHECK ((state = 'scheduled') = (ended_at IS NULL))
);
CREATE UNIQUE INDEX one_scheduled_change ON subscription_changes (tenant_id) WHERE state = 'scheduled';
CREATE INDEX subscription_changes_due ON subscription_changes (due_at) WHERE state = 'scheduled';

-- Money of the tenant's that invoices draw on before they ask for more. What is left of one is its amount less its applications.
-- Of two that could pay, the smaller priority goes first, then the one that ends first, then the older one.
CREATE TABLE credit_grants (
    grant_id       uuid PRIMARY KEY,
    tenant_id      uuid NOT NULL REFERENCES tenants,
    kind           text NOT NULL CHECK (kind IN ('promotional', 'prepaid', 'refund')),
    currency       text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    amount_micros  bigint NOT NULL CHECK (amount_micros > 0),
    priority       smallint NOT NULL DEFAULT 100 CHECK (priority BETWEEN 0 AND 1000),
    -- Both on edges of usage: a credit pays for what was used while it was valid.
    effective_at   timestamptz NOT NULL CHECK (effective_at = usage_bucket(effective_at)),
    expires_at     timestamptz CHECK (expires_at = usage_bucket(expires_at) AND expires_at > effective_at),
    reason         text NOT NULL CHECK (length(reason) BETWEEN 1 AND 500),
    created_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- What was not used by then is gone.
    revoked_at     timestamptz,
    -- Which invoice gave the money back: one whose period came out below zero, or a credit note.
    source_invoice_id  uuid
);
CREATE INDEX credit_grants_of_tenant ON credit_grants (tenant_id, grant_id);

-- Who issues invoices, and the last number that was given: numbers have no gap, so they are given when an invoice is finalised.
CREATE TABLE invoice_issuers (
    issuer         text PRIMARY KEY CHECK (issuer ~ '^[a-z0-9][a-z0-9-]{0,31}$'),
    name           text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    address        text NOT NULL DEFAULT '' CHECK (length(address) <= 1000),
    tax_id         text NOT NULL DEFAULT '' CHECK (length(tax_id) <= 100),
    number_prefix  text NOT NULL DEFAULT 'INV-' CHECK (number_prefix ~ '^[A-Z0-9-]{0,16}$'),
    last_number    bigint NOT NULL DEFAULT 0 CHECK (last_number >= 0)
);
INSERT INTO invoice_issuers (issuer, name) VALUES ('default', 'Weir');

-- An invoice of one tenant, period and currency, or a credit note that takes back a part of one. total = subtotal - credits; the subtotal is
-- the sum of the lines. Amounts of a credit note are positive.
CREATE TABLE invoices (
    invoice_id           uuid PRIMARY KEY,
    issuer               text NOT NULL REFERENCES invoice_issuers,
    number               bigint CHECK (number >= 1),
    kind                 text NOT NULL CHECK (kind IN ('invoice', 'credit_note')),
    corrects_invoice_id  uuid REFERENCES invoices,
    tenant_id            uuid NOT NULL REFERENCES tenants,
    -- As PeriodCalendar names it, for instance 2026-03@Europe/Berlin.
    period_id            text NOT NULL CHECK (length(period_id) BETWEEN 1 AND 100),
    period_start         timestamptz NOT NULL,
    period_end           timestamptz NOT NULL,
    time_zone            text NOT NULL,
    currency             text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    state                text NOT NULL DEFAULT 'draft' CHECK (state IN ('draft', 'finalised', 'paid', 'void')),
    subtotal_micros      bigint NOT NULL CHECK (subtotal_micros >= 0),
    credits_micros       bigint NOT NULL DEFAULT 0 CHECK (credits_micros BETWEEN 0 AND subtotal_micros),
    total_micros         bigint NOT NULL,
    -- As it was when the invoice was drafted: a tenant that changes its name does not change its old invoices.
    customer_name        text NOT NULL CHECK (length(customer_name) BETWEEN 1 AND 200),
    -- The issuer's, of the same moment; the prefix stands before the number.
    issuer_name          text NOT NULL,
    issuer_address       text NOT NULL,
    issuer_tax_id        text NOT NULL,
    number_prefix        text NOT NULL,
    note                 text NOT NULL DEFAULT '' CHECK (length(note) <= 500),
    drafted_at           timestamptz NOT NULL DEFAULT clock_timestamp(),
    finalised_at         timestamptz,
    due_at               timestamptz,
    paid_at              timestamptz,
    voided_at            timestamptz,
    UNIQUE (issuer, number),
    CHECK (total_micros = subtotal_micros - credits_micros),
    CHECK (period_end > period_start),
    CHECK ((kind = 'credit_note') = (corrects_invoice_id IS NOT NULL)),
    CHECK (CASE state
        WHEN 'draft' THEN num_nonnulls(number, finalised_at, paid_at, voided_at) = 0
        WHEN 'finalised' THEN num_nulls(number, finalised_at) = 0 AND num_nonnulls(paid_at, voided_at) = 0
        WHEN 'paid' THEN num_nulls(number, finalised_at, paid_at) = 0 AND voided_at IS NULL
        ELSE num_nulls(number, finalised_at, voided_at) = 0 AND paid_at IS NULL END)
);
CREATE UNIQUE INDEX one_invoice_of_a_period ON invoices (tenant_id, period_start, currency) WHERE kind = 'invoice' AND state <> 'void';
CREATE INDEX invoices_of_tenant ON invoices (tenant_id, invoice_id);
ALTER TABLE credit_grants ADD FOREIGN KEY (source_invoice_id) REFERENCES invoices;
CREATE INDEX credit_notes_of_invoice ON invoices (corrects_invoice_id) WHERE corrects_invoice_id IS NOT NULL;

-- base_fee, minimum_commitment: the tier's, for the part of the period that it was in force. usage: a meter's quantity at its price. included:
-- quantity that the tier includes, free. trial: quantity of a trial, free. late_usage: what was used in an earlier period and became known
-- after its invoice was final. carried_credit: what a period below zero gives back as a credit, so that the subtotal is zero. credit_note: what
-- a credit note takes back.
CREATE TABLE invoice_lines (
    invoice_id           uuid NOT NULL REFERENCES invoices,
    line_number          integer NOT NULL CHECK (line_number >= 1),
    kind                 text NOT NULL
        CHECK (kind IN ('base_fee', 'usage', 'included', 'trial', 'minimum_commitment', 'late_usage', 'carried_credit', 'credit_note')),
    tier_version_id      uuid REFERENCES tier_versions,
    -- '*' where models are priced together.
    model                text,
    meter                text CHECK (meter IN ('request', 'input_token', 'cached_input_token', 'output_token')),
    band                 smallint,
    description          text NOT NULL CHECK (length(description) BETWEEN 1 AND 500),
    span_start           timestamptz NOT NULL,
    span_end             timestamptz NOT NULL CHECK (span_end > span_start),
    -- Units as they are priced, times their multiplier, in millionths of a unit.
    quantity_millionths  numeric(38, 0),
    unit_price           numeric(19, 12),
    amount_micros        bigint NOT NULL,
    PRIMARY KEY (invoice_id, line_number)
);

-- The ledger's quantities that an invoice charges, as they are: the sum over all invoices of a period that are not void is the ledger's.
-- Late usage stands here with the period in which it was used.
CREATE TABLE invoice_usage (
    invoice_id           uuid NOT NULL REFERENCES invoices,
    usage_period_start   timestamptz NOT NULL,
    tier_version_id      uuid NOT NULL REFERENCES tier_versions,
    is_trial             boolean NOT NULL,
    model                text NOT NULL,
    requests             bigint NOT NULL,
    input_tokens         bigint NOT NULL,
    cached_input_tokens  bigint NOT NULL,
    output_tokens        bigint NOT NULL,
    -- The entries that are charged here are those of the period that this snapshot sees and the one before does not.
    seen                 pg_snapshot NOT NULL,
    seen_before          pg_snapshot,
    PRIMARY KEY (invoice_id, usage_period_start, tier_version_id, is_trial, model)
);

CREATE TABLE credit_applications (
    invoice_id     uuid NOT NULL REFERENCES invoices,
    grant_id       uuid NOT NULL REFERENCES credit_grants,
    amount_micros  bigint NOT NULL CHECK (amount_micros > 0),
    PRIMARY KEY (invoice_id, grant_id)
);
CREATE INDEX credit_applications_of_grant ON credit_applications (grant_id);

-- Why a correction stands in the ledger; its key is the entry's.
CREATE TABLE adjustments (
    entry_id    uuid PRIMARY KEY,
    tenant_id   uuid NOT NULL REFERENCES tenants,
    request_id  uuid NOT NULL,
    reason      text NOT NULL CHECK (length(reason) BETWEEN 1 AND 500),
    actor       text NOT NULL CHECK (length(actor) BETWEEN 1 AND 200),
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX adjustments_of_request ON adjustments (request_id);
CREATE TRIGGER adjustments_are_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON adjustments
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- Of a grant nothing changes but its revocation.
CREATE FUNCTION refuse_change_of_grant() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    IF TG_OP <> 'UPDATE' OR OLD.revoked_at IS NOT NULL OR to_jsonb(NEW) - 'revoked_at' <> to_jsonb(OLD) - 'revoked_at' THEN
        RAISE EXCEPTION 'a credit grant cannot change' USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER credit_grants_immutable BEFORE UPDATE OR DELETE ON credit_grants
    FOR EACH ROW EXECUTE FUNCTION refuse_change_of_grant();

-- What was issued stays as it is: an invoice that has a number changes its state and nothing else, and its parts do not change.
CREATE FUNCTION refuse_change_of_issued_invoice() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
DECLARE
    subjects uuid[];
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        RAISE EXCEPTION '% may hold what was issued', TG_TABLE_NAME USING ERRCODE = 'check_violation';
    END IF;
    IF TG_TABLE_NAME = 'invoices' THEN
        IF OLD.state <> 'draft' AND NOT (TG_OP = 'UPDATE' AND OLD.state = 'finalised' AND NEW.state IN ('paid', 'void')
            AND to_jsonb(NEW) - ARRAY['state', 'paid_at', 'voided_at'] = to_jsonb(OLD) - ARRAY['state', 'paid_at', 'voided_at']) THEN
            RAISE EXCEPTION 'invoice % is issued and cannot change', OLD.invoice_id USING ERRCODE = 'check_violation';
        END IF;
    ELSE
        subjects := CASE TG_OP WHEN 'INSERT' THEN ARRAY[NEW.invoice_id] WHEN 'DELETE' THEN ARRAY[OLD.invoice_id]
            ELSE ARRAY[OLD.invoice_id, NEW.invoice_id] END;
        -- Whoever finalises waits for this change, and this change for whoever finalises.
        PERFORM FROM invoices i WHERE i.invoice_id = ANY (subjects) ORDER BY i.invoice_id FOR SHARE;
        IF EXISTS (SELECT FROM invoices i WHERE i.invoice_id = ANY (subjects) AND i.state <> 'draft') THEN
            RAISE EXCEPTION 'a part of an issued invoice cannot change' USING ERRCODE = 'check_violation';
        END IF;
    END IF;
    RETURN CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END;
END
$$;
CREATE TRIGGER invoices_immutable BEFORE UPDATE OR DELETE ON invoices
    FOR EACH ROW EXECUTE FUNCTION refuse_change_of_issued_invoice();
CREATE TRIGGER invoice_lines_immutable BEFORE INSERT OR UPDATE OR DELETE ON invoice_lines
    FOR EACH ROW EXECUTE FUNCTION refuse_change_of_issued_invoice();
CREATE TRIGGER invoice_usage_immutable BEFORE INSERT OR UPDATE OR DELETE ON invoice_usage
    FOR EACH ROW EXECUTE FUNCTION refuse_change_of_issued_invoice();
CREATE TRIGGER credit_applications_immutable BEFORE INSERT OR UPDATE OR DELETE ON credit_applications
    FOR EACH ROW EXECUTE FUNCTION refuse_change_of_issued_invoice();
CREATE TRIGGER invoices_stay BEFORE TRUNCATE ON invoices
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_issued_invoice();
CREATE TRIGGER invoice_lines_stay BEFORE TRUNCATE ON invoice_lines
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_issued_invoice();
CREATE TRIGGER invoice_usage_stay BEFORE TRUNCATE ON invoice_usage
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_issued_invoice();
CREATE TRIGGER credit_applications_stay BEFORE TRUNCATE ON credit_applications
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_issued_invoice();

ALTER TABLE subscription_changes ENABLE ROW LEVEL SECURITY;
ALTER TABLE credit_grants ENABLE ROW LEVEL SECURITY;
ALTER TABLE invoices ENABLE ROW LEVEL SECURITY;
ALTER TABLE invoice_lines ENABLE ROW LEVEL SECURITY;
ALTER TABLE invoice_usage ENABLE ROW LEVEL SECURITY;
ALTER TABLE credit_applications ENABLE ROW LEVEL SECURITY;
ALTER TABLE adjustments ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_rows ON subscription_changes FOR SELECT TO weir_reader USING (tenant_id = (SELECT current_tenant()));
CREATE POLICY own_rows ON credit_grants FOR SELECT TO weir_reader USING (tenant_id = (SELECT current_tenant()));
CREATE POLICY own_rows ON adjustments FOR SELECT TO weir_reader USING (tenant_id = (SELECT current_tenant()));
-- A customer sees what was issued; the parts follow the invoice.
CREATE POLICY own_rows ON invoices FOR SELECT TO weir_reader USING (tenant_id = (SELECT current_tenant()) AND state <> 'draft');
CREATE POLICY own_rows ON invoice_lines FOR SELECT TO weir_reader
    USING (EXISTS (SELECT FROM invoices i WHERE i.invoice_id = invoice_lines.invoice_id));
CREATE POLICY own_rows ON invoice_usage FOR SELECT TO weir_reader
    USING (EXISTS (SELECT FROM invoices i WHERE i.invoice_id = invoice_usage.invoice_id));
CREATE POLICY own_rows ON credit_applications FOR SELECT TO weir_reader
    USING (EXISTS (SELECT FROM invoices i WHERE i.invoice_id = credit_applications.invoice_id));
CREATE POLICY all_rows ON subscription_changes FOR SELECT TO weir_reports USING (true);
CREATE POLICY all_rows ON credit_grants FOR SELECT TO weir_reports USING (true);
CREATE POLICY all_rows ON invoices FOR SELECT TO weir_reports USING (true);
CREATE POLICY all_rows ON invoice_lines FOR SELECT TO weir_reports USING (true);
CREATE POLICY all_rows ON invoice_usage FOR SELECT TO weir_reports USING (true);
CREATE POLICY all_rows ON credit_applications FOR SELECT TO weir_reports USING (true);
CREATE POLICY all_rows ON adjustments FOR SELECT TO weir_reports USING (true);
CREATE POLICY administration ON subscription_changes TO weir_admin USING (true) WITH CHECK (true);
CREATE POLICY administration ON credit_grants TO weir_admin USING (true) WITH CHECK (true);
CREATE POLICY administration ON invoices TO weir_admin USING (true) WITH CHECK (true);
CREATE POLICY administration ON invoice_lines TO weir_admin USING (true) WITH CHECK (true);
CREATE POLICY administration ON invoice_usage TO weir_admin USING (true) WITH CHECK (true);
CREATE POLICY administration ON credit_applications TO weir_admin USING (true) WITH CHECK (true);
CREATE POLICY administration ON adjustments TO weir_admin USING (true) WITH CHECK (true);
-- Corrections are entries that an administrator posts.
CREATE POLICY corrections ON ledger FOR INSERT TO weir_admin WITH CHECK (kind = 'correction');

GRANT SELECT ON subscription_changes, credit_grants, invoices, invoice_lines, invoice_usage, credit_applications, adjustments
    TO weir_reader, weir_reports, weir_admin;
GRANT SELECT ON invoice_issuers TO weir_reports, weir_admin;
GRANT INSERT, UPDATE ON subscription_changes, credit_grants, invoice_issuers, invoices TO weir_admin;
GRANT INSERT, UPDATE, DELETE ON invoice_lines, invoice_usage, credit_applications TO weir_admin;
GRANT DELETE ON invoices TO weir_admin;
GRANT INSERT ON ledger, adjustments TO weir_admin;
