/// Lines of invoices as rows of FOCUS 1.2, in the order of ``ExportColumns/focus``. Only what was issued: a draft has no number and can change.
///
/// Amounts are exact decimals of the currency's unit: whole micro-units times a millionth. Credits that an invoice drew on are rows of their own,
/// so that the sum of BilledCost is the invoice's total; what a credit note takes back is negative. One that was given as a credit is taken back where
/// that credit is drawn on, so the note itself has a row that gives it back: over all invoices and notes nothing counts twice.
enum FocusText {
    private static func at(_ instant: String) -> String {
        "to_char(\(instant) AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')"
    }

    private static let start = "current_setting('weir.copy_start', true)::timestamptz"
    private static let end = "current_setting('weir.copy_end', true)::timestamptz"
    private static let issued =
        "i.state IN ('finalised', 'paid') AND i.period_start >= \(start) AND i.period_start < \(end)"
    private static let tenant = "i.tenant_id = current_setting('weir.copy_tenant', true)::uuid"

    private static func rows(_ filter: String) -> String {
        """
        SELECT cost AS "BilledCost", i.tenant_id AS "BillingAccountId", export_cell(i.customer_name) AS "BillingAccountName",
            i.currency AS "BillingCurrency", \(at("i.period_end")) AS "BillingPeriodEnd", \(at("i.period_start")) AS "BillingPeriodStart",
            category AS "ChargeCategory", class AS "ChargeClass", export_cell(c.description) AS "ChargeDescription",
            \(at("c.span_end")) AS "ChargePeriodEnd", \(at("c.span_start")) AS "ChargePeriodStart", consumed AS "ConsumedQuantity",
            consumed_unit AS "ConsumedUnit", cost AS "ContractedCost", unit_price AS "ContractedUnitPrice", cost AS "EffectiveCost",
            'inv_' || i.invoice_id AS "InvoiceId", export_cell(i.issuer_name) AS "InvoiceIssuerName", cost AS "ListCost",
            unit_price AS "ListUnitPrice", quantity AS "PricingQuantity", unit AS "PricingUnit", export_cell(i.issuer_name) AS "ProviderName",
            export_cell(i.issuer_name) AS "PublisherName", export_cell(c.model) AS "ResourceId", 'AI and Machine Learning' AS "ServiceCategory",
            'Inference' AS "ServiceName", sku AS "SkuId", sku_price AS "SkuPriceId", NULL AS "SubAccountId", '{}' AS "Tags",
            export_cell(i.number_prefix || i.number) AS "x_InvoiceNumber", c.line_number AS "x_LineNumber", c.kind AS "x_LineKind",
            'pv_' || c.tier_version_id AS "x_PriceVersion"
        FROM invoices i CROSS JOIN LATERAL (
            SELECT l.line_number, l.kind, l.description, l.span_start, l.span_end, l.model, l.tier_version_id, p.cost,
                CASE WHEN i.kind = 'credit_note' THEN 'Credit' WHEN l.kind IN ('base_fee', 'minimum_commitment') THEN 'Purchase'
                    WHEN l.kind = 'carried_credit' THEN 'Adjustment' ELSE 'Usage' END AS category,
                CASE WHEN i.kind = 'credit_note' OR l.kind = 'late_usage' THEN 'Correction' END AS class,
                p.quantity AS consumed, p.unit AS consumed_unit,
                CASE WHEN p.is_fee THEN 1 WHEN p.is_packed THEN round(p.cost / p.price) ELSE p.quantity END AS quantity,
                CASE WHEN p.is_fee THEN 'Units' WHEN p.is_packed THEN 'Packages' ELSE p.unit END AS unit,
                CASE WHEN p.is_fee THEN p.cost ELSE p.price END AS unit_price, coalesce(l.meter, l.kind) AS sku,
                CASE WHEN l.meter IS NOT NULL THEN concat_ws('/', 'pv_' || l.tier_version_id, l.meter, l.model, l.band)
                    WHEN p.is_fee THEN concat_ws('/', 'pv_' || l.tier_version_id, l.kind) END AS sku_price
            FROM invoice_lines l CROSS JOIN LATERAL (
                SELECT round(l.amount_micros * (CASE i.kind WHEN 'credit_note' THEN -0.000001 ELSE 0.000001 END), 6) AS cost,
                    i.kind = 'invoice' AND l.kind IN ('base_fee', 'minimum_commitment') AS is_fee,
                    CASE WHEN l.meter IS NOT NULL THEN trim_scale(l.quantity_millionths * 0.000001) END AS quantity,
                    CASE WHEN l.meter = 'request' THEN 'Requests' ELSE 'Tokens' END AS unit_name,
                    CASE WHEN l.kind IN ('included', 'trial') THEN 0 ELSE l.unit_price END AS price_of_line
            ) q CROSS JOIN LATERAL (
                SELECT q.cost, q.is_fee, q.quantity, CASE WHEN q.quantity IS NOT NULL THEN q.unit_name END AS unit,
                    CASE WHEN l.meter IS NOT NULL THEN q.price_of_line END AS price,
                    -- What is priced by begun packages costs its price times these, and not times what was used.
                    l.meter IS NOT NULL AND q.price_of_line <> 0 AND abs(q.quantity * q.price_of_line - q.cost) > 0.0000005 AS is_packed
            ) p
            WHERE l.invoice_id = i.invoice_id
            UNION ALL
            SELECT 1000000 + row_number() OVER (ORDER BY a.grant_id), 'credit', 'Credit ' || a.grant_id, i.period_start, i.period_end, NULL,
                NULL::uuid, round(a.amount_micros * -0.000001, 6), 'Credit', NULL, NULL, NULL, NULL, NULL, NULL, 'credit', NULL
            FROM credit_applications a WHERE a.invoice_id = i.invoice_id
            UNION ALL
            SELECT 2000000 + row_number() OVER (ORDER BY g.grant_id), 'given_as_credit', 'Given as credit ' || g.grant_id, i.period_start,
                i.period_end, NULL, NULL::uuid, round(g.amount_micros * 0.000001, 6), 'Adjustment', NULL, NULL, NULL, NULL, NULL, NULL,
                'given_as_credit', NULL
            FROM credit_grants g WHERE g.source_invoice_id = i.invoice_id AND i.kind = 'credit_note'
        ) c
        WHERE \(filter)
        ORDER BY i.invoice_id, c.line_number
        """
    }

    static let ofAll = rows(issued)
    static let ofTenant = rows("\(tenant) AND \(issued)")
}
