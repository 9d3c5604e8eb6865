import Domain

/// What is said of Stripe.
struct StripeSettings: Sendable {
    /// Secret. `nil` where nothing is sent.
    let key: String?
    /// Without a slash at the end.
    let url: String
    let eventNames: [Meter: String]
    let retryMilliseconds: Int

    init(_ reader: SettingsReader) {
        key = reader.text("WEIR_STRIPE_KEY")
        url = reader.text("WEIR_STRIPE_URL") ?? ""
        eventNames = [
            .request: reader.text("WEIR_STRIPE_REQUESTS") ?? "",
            .inputToken: reader.text("WEIR_STRIPE_INPUT_TOKENS") ?? "",
            .cachedInputToken: reader.text("WEIR_STRIPE_CACHED_INPUT_TOKENS") ?? "",
            .outputToken: reader.text("WEIR_STRIPE_OUTPUT_TOKENS") ?? "",
        ]
        retryMilliseconds = reader.number("WEIR_STRIPE_RETRY_MS")
    }
}
