public import Domain

/// Usage as a table: its columns and their order are here alone, for both listeners and in JSON and CSV alike.
public enum UsageTable {
    /// The quantities of a row, behind its groups and its currency.
    public static let sums = ["requests", "input_tokens", "cached_input_tokens", "output_tokens", "cost_micros"]

    /// One row. What it is not grouped by is not shown, whatever stands here.
    public struct Row: Sendable {
        public var tenantID: TenantID?
        /// What the stretch of time is called.
        public var time: String?
        public var tag: String?
        public var tier: String?
        public var model: String?
        /// `nil` also for a key that is nobody's.
        public var userID: UserID?
        public var keyID: KeyID?
        /// ISO 4217; `nil` where nothing was used and no tier names one.
        public let currency: String?
        /// As many as ``UsageTable/sums``, in their order.
        public let sums: [Int64]

        public init(currency: String?, sums: [Int64]) {
            self.currency = currency
            self.sums = sums
        }

        fileprivate func cell(_ word: UsageGroups.Word) -> ReportCell {
            switch word {
            case .tenant: .text(tenantID?.description)
            case .tag: .text(tag)
            case .tier: .text(tier)
            case .model: .text(model)
            case .user: .text(userID?.description)
            case .key: .text(keyID?.description)
            }
        }
    }

    public static func columns(_ groups: UsageGroups) -> [String] { groups.columns + ["currency"] + sums }

    /// The row's cells under ``columns(_:)``.
    public static func cells(_ row: Row, _ groups: UsageGroups) -> [ReportCell] {
        (groups.unit == nil ? [] : [.text(row.time)])
            + UsageGroups.Word.allCases.filter(groups.words.contains).map(row.cell)
            + [.text(row.currency)] + row.sums.map { .number($0) }
    }
}
