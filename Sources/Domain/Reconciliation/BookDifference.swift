/// Something that two of the books say differently.
public struct BookDifference: Hashable, Sendable {
    /// Which of the comparisons found it.
    public let kind: String
    /// What it is about: a request, an entry, a bucket of a tenant, an invoice, a part of an export, a delivery.
    public let id: String
    public let expected: String
    public let found: String

    public init(kind: String, id: String, expected: String, found: String) {
        self.kind = kind
        self.id = id
        self.expected = expected
        self.found = found
    }
}

/// What a comparison found: a list with a bound, and how many there are in all.
public struct BookDifferences: Sendable {
    public var list: [BookDifference] = []
    public var count: Int64 = 0

    public init() {}

    /// Counts one more, and names it where there is room.
    public mutating func note(_ difference: BookDifference, limit: Int) {
        count += 1
        if list.count < limit { list.append(difference) }
    }
}

/// What is compared with what.
public enum BookComparison: String, Sendable, CaseIterable {
    /// Each completed request has its entry with the same quantities, and each usage entry its request.
    case requests
    /// Each correction has the record of why it was posted, and each such record its correction.
    case adjustments
    /// Each entry is as it was sealed, each seal follows from the one before it, and each head is of its seal.
    case seals
    /// Each entry that the sealer has passed is sealed.
    case unsealed
    /// The roll-up by tenants has the sums of the ledger.
    case usage
    /// The roll-up of hits and left streams has the sums of the ledger and of the request rows.
    case termUsage = "term_usage"
    /// The roll-up by minutes has them too.
    case minutes
    /// The roll-up by models has the sums of the ledger. Of all tenants only.
    case models
    /// An invoice's subtotal and credits are the sums of its parts.
    case invoiceSums = "invoice_sums"
    /// Invoices are as they were issued.
    case invoiceDigests = "invoice_digests"
    /// The numbers of each issuer have no gap. Of all tenants only.
    case invoiceNumbers = "invoice_numbers"
    /// No credit was drawn on for more than it is.
    case creditGrants = "credit_grants"
    /// Invoices charge what the ledger holds of their periods.
    case invoiceUsage = "invoice_usage"
    /// Months that are over are invoiced, of tenants that are invoiced at all.
    case invoicePeriods = "invoice_periods"
    /// Manifests say what their parts say.
    case exportManifests = "export_manifests"
    /// Parts have the rows and sums of the ledger.
    case exportParts = "export_parts"
    /// Parts have the bytes that their hashes are of, while they are kept.
    case exportHashes = "export_hashes"
    /// What was written for Stripe is what the ledger holds of hours that are over.
    case stripe
}

/// Which part of the books is compared.
public struct ReconciliationScope: Hashable, Sendable {
    /// `nil` for all tenants.
    public let tenantID: TenantID?
    /// Both on edges of usage; half-open.
    public let start: Timestamp
    public let end: Timestamp

    /// Moves the edges outwards to a quarter of an hour.
    public init(tenantID: TenantID?, start: Timestamp, end: Timestamp) {
        self.tenantID = tenantID
        let quarter: Int64 = 900_000_000
        self.start = Timestamp(
            microsecondsSince1970: floorDivision(start.microsecondsSince1970, quarter) * quarter)
        self.end = Timestamp(
            microsecondsSince1970: -(floorDivision(-end.microsecondsSince1970, quarter) * quarter))
    }
}

/// A comparison that was recorded.
public struct ReconciliationRecord: Sendable {
    public let id: AuditID
    public let scope: ReconciliationScope
    public let differences: BookDifferences
    public let createdBy: String
    public let createdAt: Timestamp
    public let tookMilliseconds: Int64

    public init(
        id: AuditID, scope: ReconciliationScope, differences: BookDifferences, createdBy: String, createdAt: Timestamp,
        tookMilliseconds: Int64
    ) {
        self.id = id
        self.scope = scope
        self.differences = differences
        self.createdBy = createdBy
        self.createdAt = createdAt
        self.tookMilliseconds = tookMilliseconds
    }
}
