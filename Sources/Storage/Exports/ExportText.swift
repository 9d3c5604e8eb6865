/// The parts of the statements that read exports. All are constants of this file, put together once. No value ever goes in here: values are
/// settings of the transaction.
///
/// COPY's own quoting writes a text as it is where neither its quote nor its delimiter nor an end of a line is in it; JSON has none of the three
/// below.
enum ExportText {
    static let csv = "TO STDOUT (FORMAT csv, HEADER false, ENCODING 'UTF8')"
    static let lines = "TO STDOUT (FORMAT csv, HEADER false, QUOTE E'\\x01', DELIMITER E'\\x02', ENCODING 'UTF8')"

    // MARK: Entries

    static let entryCells = """
        'led_' || entry_id, tenant_id, export_cell(tenant_name), user_id, key_id, 'req_' || request_id, kind, export_cell(model),
            export_cell(model_version), 'pv_' || tier_version_id, requests, input_tokens, cached_input_tokens, output_tokens, token_source,
            rfc3339(occurred_at), rfc3339(posted_at)
        """
    static let entryObject = """
        json_build_object('entry_id', 'led_' || entry_id, 'tenant_id', tenant_id, 'tenant_name', tenant_name, 'user_id', user_id,
            'key_id', key_id, 'request_id', 'req_' || request_id, 'kind', kind, 'model', model, 'model_version', model_version,
            'price_version', 'pv_' || tier_version_id, 'requests', requests, 'input_tokens', input_tokens,
            'cached_input_tokens', cached_input_tokens, 'output_tokens', output_tokens, 'token_source', token_source,
            'occurred_at', rfc3339(occurred_at), 'posted_at', rfc3339(posted_at))
        """
    /// CloudEvents 1.0. `source` and `id` together are unique for ever: the key of the ledger is the event's.
    static let entryEvent = """
        json_build_object('specversion', '1.0', 'id', 'led_' || entry_id, 'source', '/weir/ledger',
            'type', CASE kind WHEN 'usage' THEN 'com.weir.usage.v1' ELSE 'com.weir.usage.correction.v1' END, 'subject', tenant_id,
            'time', rfc3339(occurred_at), 'datacontenttype', 'application/json', 'data', json_build_object('request_id', 'req_' || request_id,
            'user_id', user_id, 'key_id', key_id, 'model', model, 'model_version', model_version, 'price_version', 'pv_' || tier_version_id,
            'requests', requests, 'input_tokens', input_tokens, 'cached_input_tokens', cached_input_tokens, 'output_tokens', output_tokens,
            'token_source', token_source, 'posted_at', rfc3339(posted_at)))
        """

    private static let start = "current_setting('weir.copy_start', true)::timestamptz"
    private static let end = "current_setting('weir.copy_end', true)::timestamptz"
    private static let tenant = "tenant_id = current_setting('weir.copy_tenant', true)::uuid"
    private static let occurred = "occurred_at >= \(start) AND occurred_at < \(end)"
    /// An entry whose key tells when its usage occurred lies in this range; the primary key serves it.
    private static let range = """
        entry_id >= uuid_lower_bound(\(start) - interval '1 hour') AND entry_id < uuid_lower_bound(\(end) + interval '1 hour')
        """
    /// The others come from an index of their own, which is small; those of them that lie in the range were read already.
    private static let strays = "\(stray) AND NOT (\(range))"
    /// As in the index `ledger_strays`.
    static let stray = """
        (occurred_at - timestamptz '1970-01-01 00:00:00+00')
            - ((get_byte(uuid_send(entry_id), 0)::bigint << 24) + (get_byte(uuid_send(entry_id), 1) << 16)
                + (get_byte(uuid_send(entry_id), 2) << 8) + get_byte(uuid_send(entry_id), 3)) * interval '65.536 seconds'
            NOT BETWEEN interval '-30 minutes' AND interval '30 minutes'
        """

    static let entriesOfAll = """
        SELECT * FROM export_entries WHERE \(range) AND \(occurred)
        UNION ALL
        SELECT * FROM export_entries WHERE \(strays) AND \(occurred)
        """
    static let entriesOfTenant = """
        SELECT * FROM export_entries WHERE \(tenant) AND \(range) AND \(occurred)
        UNION ALL
        SELECT * FROM export_entries WHERE \(tenant) AND \(strays) AND \(occurred)
        """

    // MARK: Sums

    static let sumCells = """
        tenant_id, export_cell(tenant_name), rfc3339(bucket), time_zone, key_id, export_cell(model), 'pv_' || tier_version_id, requests,
            input_tokens, cached_input_tokens, output_tokens
        """
    static let sumObject = """
        json_build_object('tenant_id', tenant_id, 'tenant_name', tenant_name, 'bucket_start', rfc3339(bucket), 'time_zone', time_zone,
            'key_id', key_id, 'model', model, 'price_version', 'pv_' || tier_version_id, 'requests', requests, 'input_tokens', input_tokens,
            'cached_input_tokens', cached_input_tokens, 'output_tokens', output_tokens)
        """
    private static let bucketed = "bucket_start >= \(start) AND bucket_start < \(end)"
    /// What the roll-up has not reached.
    private static let tail = "tx >= (SELECT position FROM rollup_watermark)"
    private static let summed = """
        SELECT u.tenant_id, t.name AS tenant_name, date_trunc(current_setting('weir.copy_granularity', true), u.bucket_start, t.time_zone) AS bucket,
            t.time_zone, u.key_id, u.model, u.tier_version_id, sum(u.requests)::bigint AS requests,
            sum(u.input_tokens)::bigint AS input_tokens, sum(u.cached_input_tokens)::bigint AS cached_input_tokens,
            sum(u.output_tokens)::bigint AS output_tokens
        """
    private static let groups = """
        GROUP BY u.tenant_id, t.name, bucket, t.time_zone, u.key_id, u.model, u.tier_version_id
        ORDER BY u.tenant_id, bucket, u.model, u.key_id, u.tier_version_id
        """
    private static let usageColumns = """
        tenant_id, bucket_start, key_id, model, tier_version_id, requests_count AS requests, input_tokens, cached_input_tokens, output_tokens
        """
    private static let tailColumns = """
        tenant_id, usage_bucket(occurred_at), key_id, model, tier_version_id, requests, input_tokens, cached_input_tokens, output_tokens
        """

    /// The roll-up and the ledger's tail behind it, in one snapshot, so exact to the last commit.
    static let sumsOfAll = """
        \(summed) FROM (
            SELECT \(usageColumns) FROM usage WHERE \(bucketed)
            UNION ALL
            SELECT \(tailColumns) FROM ledger WHERE \(tail) AND \(occurred)
        ) u JOIN tenants t ON t.tenant_id = u.tenant_id \(groups)
        """
    static let sumsOfTenant = """
        \(summed) FROM (
            SELECT \(usageColumns) FROM usage WHERE \(tenant) AND \(bucketed)
            UNION ALL
            SELECT \(tailColumns) FROM ledger WHERE \(tenant) AND \(tail) AND \(occurred)
        ) u JOIN tenants t ON t.tenant_id = u.tenant_id \(groups)
        """

    // MARK: Parts of jobs

    private static let position = """
        tx >= current_setting('weir.copy_from', true)::xid8 AND tx < current_setting('weir.copy_to', true)::xid8
        """
    /// Behind the last whole part.
    private static let behind = "entry_id > current_setting('weir.copy_after', true)::uuid"
    /// Not beyond the part; for the statement that finds where it ends there is no bound.
    private static let upTo = "entry_id <= current_setting('weir.copy_last', true)::uuid"

    /// Each branch is in the order of a key, so the two are merged and nothing is sorted but the strays.
    static let jobEntriesOfAll = """
        SELECT * FROM export_entries WHERE \(range) AND \(occurred) AND \(position) AND \(behind) AND \(upTo)
        UNION ALL
        SELECT * FROM export_entries WHERE \(strays) AND \(occurred) AND \(position) AND \(behind) AND \(upTo)
        ORDER BY entry_id
        """
    static let jobEntriesOfTenant = """
        SELECT * FROM export_entries WHERE \(tenant) AND \(range) AND \(occurred) AND \(position) AND \(behind) AND \(upTo)
        UNION ALL
        SELECT * FROM export_entries WHERE \(tenant) AND \(strays) AND \(occurred) AND \(position) AND \(behind) AND \(upTo)
        ORDER BY entry_id
        """
    /// By the index over transactions.
    static let newEntriesOfAll = """
        SELECT * FROM export_entries WHERE \(position) AND \(behind) AND \(upTo) ORDER BY entry_id
        """
    static let newEntriesOfTenant = """
        SELECT * FROM export_entries WHERE \(tenant) AND \(position) AND \(behind) AND \(upTo) ORDER BY entry_id
        """
    /// From the ledger alone, because the roll-up moves on: the same transactions have the same sums for ever.
    static let jobSumsOfAll = """
        \(summed) FROM (
            SELECT tenant_id, usage_bucket(occurred_at) AS bucket_start, key_id, model, tier_version_id, requests, input_tokens,
                cached_input_tokens, output_tokens
            FROM (\(jobEntriesOfAll)) entries
        ) u JOIN tenants t ON t.tenant_id = u.tenant_id \(groups)
        """
    static let jobSumsOfTenant = """
        \(summed) FROM (
            SELECT tenant_id, usage_bucket(occurred_at) AS bucket_start, key_id, model, tier_version_id, requests, input_tokens,
                cached_input_tokens, output_tokens
            FROM (\(jobEntriesOfTenant)) entries
        ) u JOIN tenants t ON t.tenant_id = u.tenant_id \(groups)
        """
}
