public import NIOHTTP1

/// The fields of a request's head that are read by us, found in one pass: a look-up by name goes through all fields each time.
///
/// Of a field that stands several times the first is kept; where that would leave open what was meant, the number is kept besides.
public struct RequestFields: Sendable {
    private(set) var host: String?
    private(set) var hostCount = 0
    private(set) var transferEncoding: String?
    private(set) var transferEncodingCount = 0
    public private(set) var contentLength: String?
    public private(set) var contentType: String?
    public private(set) var contentEncoding: String?
    public private(set) var expect: String?
    public private(set) var traceParent: String?
    public private(set) var traceState: String?
    public private(set) var requestID: String?
    private(set) var hasUpgrade = false
    private(set) var connectionNamesUpgrade = false
    public private(set) var authorization: String?
    public private(set) var authorizationCount = 0
    /// The values of `x-api-key` and `api-key`.
    public private(set) var apiKeys: [String] = []
    /// The values of `idempotency-key`; more than one is an error for the route that heeds it.
    public private(set) var idempotencyKeys: [String] = []
    /// Whether the caller prefers to be told later (RFC 7240, section 4.1).
    public private(set) var prefersAsync = false
    /// Where the JSON of a body with binary tensors ends.
    public private(set) var inferenceHeaderLength: String?
    /// The values of `x-weir-priority` and `x-weir-run-at`, of requests that are to become jobs.
    public private(set) var jobPriorities: [String] = []
    public private(set) var jobInstants: [String] = []
    /// The values of `x-weir-tags`; nearly always none.
    public private(set) var tagFields: [String] = []
    /// What the request says about the cache; nearly always nothing.
    public private(set) var cacheFields: [CacheField] = []
    /// The values of `x-weir-receipt`; more than one is an error for the route that heeds it.
    public private(set) var receipts: [String] = []

    public init(_ headers: HTTPHeaders) {
        for (name, value) in headers { take(name, value) }
    }

    private mutating func take(_ name: String, _ value: String) {
        // By length first: it tells nearly all names apart.
        switch name.utf8.count {
        case 4 where Self.matches(name, "host"):
            hostCount += 1
            host = host ?? value
        case 6 where Self.matches(name, "expect"): expect = expect ?? value
        case 6 where Self.matches(name, "prefer"): if Self.prefersAsync(value) { prefersAsync = true }
        case 7 where Self.matches(name, "api-key"): apiKeys.append(value)
        case 7 where Self.matches(name, "upgrade"): hasUpgrade = true
        case 9 where Self.matches(name, "x-api-key"): apiKeys.append(value)
        case 10 where Self.matches(name, "connection"):
            if value.utf8.count >= 7, value.lowercased().contains("upgrade") { connectionNamesUpgrade = true }
        case 10 where Self.matches(name, "tracestate"): traceState = traceState ?? value
        case 11 where Self.matches(name, "traceparent"): traceParent = traceParent ?? value
        case 11 where Self.matches(name, "x-weir-tags"): tagFields.append(value)
        case 12 where Self.matches(name, "content-type"): contentType = contentType ?? value
        case 12 where Self.matches(name, "x-request-id"): requestID = requestID ?? value
        case 12 where Self.matches(name, "x-weir-cache"): cacheFields.append(.use(value))
        case 13 where Self.matches(name, "cache-control"): cacheFields.append(.control(value))
        case 13 where Self.matches(name, "authorization"):
            authorizationCount += 1
            authorization = authorization ?? value
        case 13 where Self.matches(name, "x-weir-run-at"): jobInstants.append(value)
        case 15 where Self.matches(name, "x-weir-priority"): jobPriorities.append(value)
        case 14 where Self.matches(name, "x-weir-receipt"): receipts.append(value)
        case 14 where Self.matches(name, "content-length"): contentLength = contentLength ?? value
        case 15 where Self.matches(name, "idempotency-key"): idempotencyKeys.append(value)
        case 16 where Self.matches(name, "content-encoding"): contentEncoding = contentEncoding ?? value
        case 16 where Self.matches(name, "x-weir-cache-ttl"): cacheFields.append(.ttl(value))
        case 16 where Self.matches(name, "x-weir-cache-key"): cacheFields.append(.label(value))
        case 17 where Self.matches(name, "transfer-encoding"):
            transferEncodingCount += 1
            transferEncoding = transferEncoding ?? value
        case 31 where Self.matches(name, "inference-header-content-length"):
            // Two of them divide the body in two ways: what is no number is refused.
            inferenceHeaderLength = inferenceHeaderLength == nil ? value : "twice"
        default: break
        }
    }

    /// Preferences are divided by commas, their parameters by semicolons (RFC 7240, section 2).
    private static func prefersAsync(_ value: String) -> Bool {
        value.split(separator: ",").contains { preference in
            let name = preference.prefix { $0 != ";" && $0 != "=" }.filter { $0 != " " && $0 != "\t" }
            return name.lowercased() == "respond-async"
        }
    }

    private static func matches(_ name: String, _ lower: StaticString) -> Bool { matches(name.utf8, lower) }

    /// Without regard to case; `lower` is in lower case and as long as `name`.
    private static func matches(_ name: some Sequence<UInt8>, _ lower: StaticString) -> Bool {
        var index = 0
        for byte in name {
            let folded = (0x41...0x5A).contains(byte) ? byte | 0x20 : byte
            if folded != lower.utf8Start[index] { return false }
            index += 1
        }
        return true
    }

    /// Whether another protocol is asked for behind this request. None is served; the parser stops there all the same.
    public var asksForUpgrade: Bool { hasUpgrade && connectionNamesUpgrade }
}
