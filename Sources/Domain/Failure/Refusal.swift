/// Why a request gets no prediction: a stable code, a text that tells the caller what to do, and a cause for the log alone.
public struct Refusal: Error, Sendable {
    /// One thing that is wrong with the input.
    public struct FieldError: Hashable, Sendable {
        /// A JSON Pointer or the name of a header or parameter.
        public let location: String
        public let message: String
        /// What to do about it.
        public let fix: String

        public init(location: String, message: String, fix: String) {
            self.location = location
            self.message = message
            self.fix = fix
        }
    }

    public let code: FailureCode
    /// For the caller; never a stack trace, SQL or another tenant's data.
    public private(set) var detail: String
    public var errors: [FieldError] = []
    public var retryAfterSeconds: Int?
    /// The numbers that decided, when a quota did.
    public var quota: QuotaRefusal?
    /// The numbers that decided, when a rate limit did.
    public var rate: RateRefusal?
    /// For the log; never sent.
    public var cause: String?
    /// Whether the request may have been charged although it is refused: then no answer is sent at all, because every answer would claim to
    /// know.
    public var isOutcomeUnknown = false
    /// Of an attempt of a job: another one has the job, or it was ended otherwise. What was done is discarded and nothing follows from it.
    public var isSuperseded = false
    /// Whether some worker got the request before none could be reached, so that it may have run, or may be what hurt the worker.
    public var mayHaveRun = false
    /// Whether a worker has looked at the input and refused it: the caller's own fault, and the one failure that a tier can charge.
    public var isRefusedInput = false
    /// What was charged although there is no answer; nearly always nothing.
    public private(set) var charge: FailureCharge?
    /// The methods that exist, for a 405.
    public var allowedMethods: [String] = []
    /// How long the whole is of which a part was asked for, in bytes, for a 416.
    public var completeByteCount: Int?

    public init(
        _ code: FailureCode, _ detail: String, errors: [FieldError] = [], retryAfterSeconds: Int? = nil,
        quota: QuotaRefusal? = nil, cause: String? = nil
    ) {
        self.code = code
        self.detail = detail
        self.errors = errors
        self.retryAfterSeconds = retryAfterSeconds
        self.quota = quota
        self.cause = cause
    }

    /// The same refusal of a request that is charged.
    public func charged(_ charge: FailureCharge) -> Refusal {
        var refusal = self
        refusal.charge = charge
        if refusal.detail.hasSuffix(Self.freeText) { refusal.detail.removeLast(Self.freeText.count) }
        refusal.detail += " One request was charged: the tier charges those that the model refuses."
        return refusal
    }

    private static let freeText = " Nothing was charged."

    /// A single invalid field.
    public static func invalid(_ location: String, _ message: String, fix: String) -> Refusal {
        Refusal(
            .validationFailed, "\(location): \(message)",
            errors: [FieldError(location: location, message: message, fix: fix)])
    }
}

/// What a request costs that failed: one request and no tokens.
public struct FailureCharge: Hashable, Sendable {
    public let model: String
    public let tierVersionID: TierVersionID
    /// `nil` where it is more than 64 bits hold.
    public let cost: Micros?
    /// ISO 4217.
    public let currency: String

    public init(model: String, tierVersionID: TierVersionID, cost: Micros?, currency: String) {
        self.model = model
        self.tierVersionID = tierVersionID
        self.cost = cost
        self.currency = currency
    }
}
