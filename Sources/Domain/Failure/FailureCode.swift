/// Every reason for which a request is refused or fails, with its stable text. The list is frozen by a test: customers' programs key on
/// these words and statuses.
public enum FailureCode: String, Sendable, CaseIterable {
    case missingKey = "missing_key"
    case invalidAPIKey = "invalid_api_key"
    case wrongPlane = "wrong_plane"
    case tenantSuspended = "tenant_suspended"
    case insufficientScope = "insufficient_scope"
    case modelNotAllowed = "model_not_allowed"
    case notFound = "not_found"
    case modelNotFound = "model_not_found"
    case methodNotAllowed = "method_not_allowed"
    case badRequest = "bad_request"
    case invalidJSON = "invalid_json"
    case tooDeep = "too_deep"
    case duplicateKey = "duplicate_key"
    case invalidNumber = "invalid_number"
    case forbiddenField = "forbidden_field"
    case unknownField = "unknown_field"
    case validationFailed = "validation_failed"
    case forbiddenTarget = "forbidden_target"
    case conflict = "conflict"
    case priceChangeTooLarge = "price_change_too_large"
    case idempotencyInProgress = "idempotency_in_progress"
    case idempotencyMismatch = "idempotency_mismatch"
    case requestTimeout = "request_timeout"
    case requestTooLarge = "request_too_large"
    case uriTooLong = "uri_too_long"
    case unsupportedMediaType = "unsupported_media_type"
    case unsupportedEncoding = "unsupported_encoding"
    case expectationFailed = "expectation_failed"
    case headersTooLarge = "headers_too_large"
    case httpVersionNotSupported = "http_version_not_supported"
    case quotaExceeded = "quota_exceeded"
    case rateLimited = "rate_limited"
    case internalError = "internal_error"
    case badUpstream = "bad_upstream"
    case noHealthyWorker = "no_healthy_worker"
    case meteringUnavailable = "metering_unavailable"
    case storageUnavailable = "storage_unavailable"
    case overloaded
    case upstreamTimeout = "upstream_timeout"
    case notCached = "not_cached"
    case invalidTags = "invalid_tags"
    case tooManyJobs = "too_many_jobs"
    case resultGone = "result_gone"
    case rangeNotSatisfiable = "range_not_satisfiable"
    case clientClosed = "client_closed"
    case pdfUnavailable = "pdf_unavailable"
    case balanceExhausted = "balance_exhausted"

    /// The HTTP status on the native surface.
    public var httpStatus: Int {
        switch self {
        case .badRequest, .invalidJSON, .tooDeep, .duplicateKey, .invalidNumber, .forbiddenField, .unknownField,
            .invalidTags:
            400
        case .missingKey, .invalidAPIKey: 401
        case .balanceExhausted: 402
        case .wrongPlane, .tenantSuspended, .insufficientScope, .modelNotAllowed: 403
        case .notFound, .modelNotFound: 404
        case .methodNotAllowed: 405
        case .requestTimeout: 408
        case .conflict, .priceChangeTooLarge, .idempotencyInProgress: 409
        case .resultGone: 410
        case .requestTooLarge: 413
        case .uriTooLong: 414
        case .unsupportedMediaType, .unsupportedEncoding: 415
        case .rangeNotSatisfiable: 416
        case .expectationFailed: 417
        case .validationFailed, .forbiddenTarget, .idempotencyMismatch: 422
        case .quotaExceeded, .rateLimited, .tooManyJobs: 429
        case .headersTooLarge: 431
        case .internalError: 500
        case .badUpstream: 502
        case .noHealthyWorker, .meteringUnavailable, .storageUnavailable, .overloaded, .pdfUnavailable: 503
        case .upstreamTimeout, .notCached: 504
        case .httpVersionNotSupported: 505
        // Of no standard; known from the logs of nginx. Nobody is left to be answered with it.
        case .clientClosed: 499
        }
    }

    /// The problem's title: the same words for every occurrence of the code (RFC 9457, section 3.1.3).
    public var title: String {
        switch self {
        case .missingKey: "An API key is required"
        case .invalidAPIKey: "The API key is not valid"
        case .wrongPlane: "The key belongs to another part of the API"
        case .tenantSuspended: "The account is suspended"
        case .insufficientScope: "The key lacks the scope for this"
        case .modelNotAllowed: "The key may not call this model"
        case .notFound: "Not found"
        case .modelNotFound: "The model does not exist"
        case .methodNotAllowed: "The method is not allowed here"
        case .badRequest: "The request is malformed"
        case .invalidJSON: "The body is not valid JSON"
        case .tooDeep: "The body is nested too deeply"
        case .duplicateKey: "The body has a key twice"
        case .invalidNumber: "A number cannot be used"
        case .forbiddenField: "The body has a field that is not accepted"
        case .unknownField: "The body has an unknown field"
        case .validationFailed: "The request does not fit the model or the schema"
        case .forbiddenTarget: "Nothing is sent to this address"
        case .conflict: "The request conflicts with what is there"
        case .priceChangeTooLarge: "A price moves too far to be published unseen"
        case .idempotencyInProgress: "A request with this idempotency key is under way"
        case .idempotencyMismatch: "The idempotency key was used with another request"
        case .requestTimeout: "The request took too long to arrive"
        case .requestTooLarge: "The body is too large"
        case .uriTooLong: "The request target is too long"
        case .unsupportedMediaType: "The content type is not supported"
        case .unsupportedEncoding: "The content encoding is not supported"
        case .expectationFailed: "The expectation cannot be met"
        case .headersTooLarge: "The header is too large"
        case .httpVersionNotSupported: "The HTTP version is not supported"
        case .quotaExceeded, .rateLimited: "Request cannot be satisfied as assigned quota has been exceeded"
        case .internalError: "Something failed on our side"
        case .badUpstream: "The model's worker gave an unusable answer"
        case .noHealthyWorker: "No worker serves the model at the moment"
        case .meteringUnavailable: "Usage cannot be recorded at the moment"
        case .storageUnavailable: "The database cannot be reached at the moment"
        case .overloaded: "Too much is waiting"
        case .upstreamTimeout: "The model's worker did not answer in time"
        case .notCached: "The answer is not in the cache"
        case .invalidTags: "The tags cannot be used"
        case .tooManyJobs: "Too many jobs are queued"
        case .resultGone: "The result is no longer kept"
        case .rangeNotSatisfiable: "The range lies outside of the result"
        case .clientClosed: "The client left before there was an answer"
        case .pdfUnavailable: "No PDF can be made at the moment"
        case .balanceExhausted: "The prepaid balance is used up"
        }
    }

    /// The problem's type; a registered one where there is one.
    public var typeURI: String {
        switch self {
        case .quotaExceeded, .rateLimited: "https://iana.org/assignments/http-problem-types#quota-exceeded"
        default: "about:blank"
        }
    }
}
