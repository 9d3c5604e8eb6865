public import Domain

extension RatingFailure {
    /// What whoever asked what something costs is told.
    public var refusal: Refusal {
        switch self {
        case .mixedCurrencies:
            Refusal(
                .conflict,
                "The tiers of this time had different currencies, which cannot stand on one bill. Ask for fewer periods."
            )
        case .unknownTierVersion, .amountTooLarge:
            Refusal(.internalError, "The usage cannot be rated.", cause: "\(self)")
        }
    }
}
