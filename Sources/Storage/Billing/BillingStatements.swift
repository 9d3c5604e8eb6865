public import PostgresDriver

/// The statements of billing, so that a test can prepare each of them.
public enum BillingStatements {
    public static let all: [any PostgresStatement.Type] = [
        FindBillingAccount.self, ListBillingAccounts.self, ReadRatingParts.self, ReadTermsHeads.self,
        ReadTermsPrices.self, ReadTermsMultipliers.self,
    ]
}
