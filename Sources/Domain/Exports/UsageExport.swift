/// How the lines of an export are written.
public enum ExportFormat: String, Sendable, CaseIterable {
    /// RFC 4180 with a header.
    case csv
    /// One JSON object in each line.
    case jsonl
    /// One CloudEvents 1.0 event in each line.
    case cloudevents
    /// FOCUS 1.2 as CSV: one row for each line of an invoice.
    case focus

    public var mediaType: String {
        switch self {
        case .csv, .focus: "text/csv; charset=utf-8; header=present"
        case .jsonl, .cloudevents: "application/jsonl"
        }
    }

    /// The ending of a file's name.
    public var fileExtension: String {
        switch self {
        case .csv, .focus: "csv"
        case .jsonl, .cloudevents: "jsonl"
        }
    }
}

/// What a line of an export is about.
public enum ExportGranularity: String, Sendable, CaseIterable {
    /// One entry of the ledger.
    case entries
    /// Sums of an hour, a day or a month in the tenant's time zone.
    case hour
    case day
    case month
}

/// Which usage is exported: what occurred in `start <= t < end`.
public struct ExportQuery: Hashable, Sendable {
    /// `nil` for all tenants.
    public let tenantID: TenantID?
    public let format: ExportFormat
    public let granularity: ExportGranularity
    public let start: Timestamp
    public let end: Timestamp

    public init(
        tenantID: TenantID?, format: ExportFormat, granularity: ExportGranularity, start: Timestamp, end: Timestamp
    ) {
        self.tenantID = tenantID
        self.format = format
        self.granularity = granularity
        self.start = start
        self.end = end
    }

    /// Reads what a caller asks for.
    /// - Throws: `validation_failed` for a combination that there is not.
    public static func checked(
        tenantID: TenantID?, format: ExportFormat, granularity: ExportGranularity?, start: Timestamp, end: Timestamp
    ) throws(Refusal) -> ExportQuery {
        guard start < end else {
            throw .invalid("end", "must be later than start", fix: "The range is half-open: start <= t < end.")
        }
        guard end.milliseconds(since: start) <= longestMilliseconds else {
            throw .invalid("start", "is more than 400 days before end", fix: "Ask for a shorter range.")
        }
        if format == .cloudevents || format == .focus, let granularity, granularity != .entries {
            throw .invalid(
                "granularity", "does not go with the format \(format.rawValue)",
                fix: "Leave it out, or take csv or jsonl."
            )
        }
        let query = ExportQuery(
            tenantID: tenantID, format: format, granularity: granularity ?? .entries, start: start, end: end)
        if query.granularity != .entries {
            for (name, edge) in [("start", start), ("end", end)] where !edge.isUsageEdge {
                throw .invalid(
                    name, "must be on a quarter of an hour, by which usage is summed",
                    fix: "Send minutes of 00, 15, 30 or 45 and no seconds, or take granularity=entries.")
            }
        }
        return query
    }

    private static let longestMilliseconds: Int64 = 400 * 86_400_000

    /// The line ahead of the rows; empty where the format has none.
    public var header: String {
        switch (format, granularity) {
        case (.csv, .entries): ExportColumns.entries.joined(separator: ",") + "\r\n"
        case (.csv, _): ExportColumns.sums.joined(separator: ",") + "\r\n"
        case (.focus, _): ExportColumns.focus.joined(separator: ",") + "\r\n"
        case (.jsonl, _), (.cloudevents, _): ""
        }
    }

    /// The line behind the last row, by which a reader knows that nothing is missing; empty where a count outside of the file says so.
    public func trailer(rows: Int64) -> String {
        switch format {
        case .jsonl: #"{"object":"export_trailer","rows":\#(rows)}"# + "\n"
        case .csv, .focus, .cloudevents: ""
        }
    }

    /// What the file is called.
    public var filename: String {
        let edges = [start, end].map { $0.description.prefix(10).replacing("-", with: "") }
        return "weir-\(format.rawValue)-\(granularity.rawValue)-\(edges[0])-\(edges[1]).\(format.fileExtension)"
    }
}

/// The columns of the formats with a header. Those who write the rows keep to this order; a test compares them.
public enum ExportColumns {
    public static let entries = [
        "entry_id", "tenant_id", "tenant_name", "user_id", "key_id", "request_id", "kind", "model", "model_version",
        "price_version", "requests", "input_tokens", "cached_input_tokens", "output_tokens", "token_source",
        "occurred_at",
        "posted_at",
    ]
    public static let sums = [
        "tenant_id", "tenant_name", "bucket_start", "time_zone", "key_id", "model", "price_version", "requests",
        "input_tokens", "cached_input_tokens", "output_tokens",
    ]
    /// FOCUS 1.2, by name, and then our own.
    public static let focus = [
        "BilledCost", "BillingAccountId", "BillingAccountName", "BillingCurrency", "BillingPeriodEnd",
        "BillingPeriodStart",
        "ChargeCategory", "ChargeClass", "ChargeDescription", "ChargePeriodEnd", "ChargePeriodStart",
        "ConsumedQuantity",
        "ConsumedUnit", "ContractedCost", "ContractedUnitPrice", "EffectiveCost", "InvoiceId", "InvoiceIssuerName",
        "ListCost", "ListUnitPrice", "PricingQuantity", "PricingUnit", "ProviderName", "PublisherName", "ResourceId",
        "ServiceCategory", "ServiceName", "SkuId", "SkuPriceId", "SubAccountId", "Tags", "x_InvoiceNumber",
        "x_LineNumber", "x_LineKind", "x_PriceVersion",
    ]
}
