public import Domain

extension Refusal {
    /// A body of more bytes than the listener or the route takes.
    public static func tooLarge(_ limit: Int) -> Refusal {
        Refusal(.requestTooLarge, "The body is larger than \(limit) bytes. Send less at once.")
    }

    /// The database is away, and nothing was to be metered.
    public static func storageUnavailable(cause: String) -> Refusal {
        Refusal(
            .storageUnavailable, "The database cannot be reached at the moment. Try again in a few seconds.",
            retryAfterSeconds: 2, cause: cause)
    }
}
