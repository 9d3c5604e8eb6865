-- What a credit note does with its money, why an invoice was voided, and who may read of drafts.

-- A void invoice with reissue has taken nothing of its period; without it, the run leaves the period alone.
ALTER TABLE invoices
    ADD COLUMN note_form text CHECK (note_form IN ('reduction', 'credit', 'money')),
    ADD COLUMN granted_micros bigint NOT NULL DEFAULT 0 CHECK (granted_micros >= 0),
    ADD COLUMN void_reason text CHECK (length(void_reason) BETWEEN 1 AND 500),
    ADD COLUMN reissue boolean,
    ADD CONSTRAINT invoices_note CHECK (kind = 'credit_note' AND granted_micros <= total_micros OR note_form IS NULL AND granted_micros = 0),
    ADD CONSTRAINT invoices_voiding CHECK (state = 'void' OR num_nonnulls(void_reason, reissue) = 0);

-- Notes that were written before this was kept: who has a grant got a credit; the others lowered what was owed, or gave money back if it was paid.
ALTER TABLE invoices DISABLE TRIGGER invoices_immutable;
UPDATE invoices n SET
    note_form = CASE
        WHEN EXISTS (SELECT FROM credit_grants g WHERE g.source_invoice_id = n.invoice_id) THEN 'credit'
        WHEN (SELECT i.paid_at FROM invoices i WHERE i.invoice_id = n.corrects_invoice_id) <= n.finalised_at THEN 'money'
        ELSE 'reduction' END,
    granted_micros = coalesce((SELECT sum(g.amount_micros)::bigint FROM credit_grants g WHERE g.source_invoice_id = n.invoice_id), 0)
WHERE n.kind = 'credit_note';
ALTER TABLE invoices ENABLE TRIGGER invoices_immutable;

-- As before, but the reason of a voiding is set with it, and one that asked for nothing, which is paid when it is issued, may be voided: no money
-- has moved.
CREATE OR REPLACE FUNCTION refuse_change_of_issued_invoice() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
DECLARE
    subjects uuid[];
    changing CONSTANT text[] := ARRAY['state', 'paid_at', 'voided_at', 'void_reason', 'reissue'];
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        RAISE EXCEPTION '% may hold what was issued', TG_TABLE_NAME USING ERRCODE = 'check_violation';
    END IF;
    IF TG_TABLE_NAME = 'invoices' THEN
        IF OLD.state <> 'draft' AND NOT (TG_OP = 'UPDATE' AND
            (OLD.state = 'finalised' AND NEW.state IN ('paid', 'void') OR OLD.state = 'paid' AND OLD.total_micros = 0 AND NEW.state = 'void')
            AND to_jsonb(NEW) - changing = to_jsonb(OLD) - changing) THEN
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
-- What is drafted is the operator's alone until it is issued.
ALTER POLICY own_rows ON audit_log
    USING (tenant_id = (SELECT current_tenant()) AND action NOT IN ('invoice.draft', 'invoice.remove_draft'));
