/// What one request says about the cache: `Cache-Control` (RFC 9111, section 5.2.1) and the fields `x-weir-cache`, `x-weir-cache-ttl` and
/// `x-weir-cache-key`.
public struct CacheInstruction: Hashable, Sendable {
    public enum Use: String, Sendable, CaseIterable {
        /// Answer from the cache where it can; keep the answer where it cannot.
        case use
        /// Neither look nor keep.
        case bypass
        /// Do not look, keep the answer.
        case refresh
        /// Answer from the cache or not at all.
        case only
    }

    public var use = Use.use
    /// An older answer is not wanted.
    public var maximumAgeSeconds: Int64?
    public var ttlSeconds: Int64?
    /// The caller's own name for what it asks. Entries with different names are different, and can be cleared by name.
    public var label: String?
    /// The caller names the cache and wants something of it, which asks for a kept answer also where chance makes each one different.
    public var isAsked = false

    public init() {}

    public static let standard = CacheInstruction()
    /// Of the values of all fields together.
    public static let byteLimit = 1_024
    /// Of `Cache-Control`.
    public static let directiveLimit = 64

    /// Reads the fields of a request; each list holds the values of all lines of one field.
    /// - Throws: `bad_request`. What is no directive of ours in `Cache-Control` is passed over, as RFC 9111, section 5.2.3 asks.
    public init(control: [String], use modes: [String], ttl: [String], label labels: [String]) throws(Refusal) {
        let byteCount = [control, modes, ttl, labels].joined().reduce(0) { $0 + $1.utf8.count }
        guard byteCount <= Self.byteLimit else {
            throw .malformedCacheField(
                "Cache-Control", "and the fields x-weir-cache are more than \(Self.byteLimit) bytes together",
                fix: "Send what is needed alone.")
        }
        var (directives, refusesKept) = (0, false)
        for line in control {
            for part in line.split(separator: ",") {
                directives += 1
                guard directives <= Self.directiveLimit else {
                    throw .malformedCacheField(
                        "Cache-Control", "has more than \(Self.directiveLimit) directives",
                        fix: "Send what is needed alone.")
                }
                try take(Self.trimmed(part), &refusesKept)
            }
        }
        if let text = try Self.single(modes, "x-weir-cache") {
            guard let mode = Use(rawValue: text.lowercased()) else {
                throw .malformedCacheField(
                    "x-weir-cache", "must be use, bypass, refresh or only", fix: "Send one of them.")
            }
            // Ours by name, and so the last word.
            use = mode
            isAsked = mode != .bypass
        } else if refusesKept {
            // Together with only-if-cached nothing is left that could be answered.
            maximumAgeSeconds = -1
        }
        if let text = try Self.single(ttl, "x-weir-cache-ttl") {
            guard let seconds = Self.seconds(text), seconds >= 1 else {
                throw .malformedCacheField(
                    "x-weir-cache-ttl", "must be a whole number of seconds from 1 to 31536000",
                    fix: "Send 300, for example.")
            }
            ttlSeconds = seconds
        }
        if let text = try Self.single(labels, "x-weir-cache-key") {
            guard CachePattern.isLabel(text) else {
                throw .malformedCacheField(
                    "x-weir-cache-key", "must be 1 to 128 of A-Z, a-z, 0-9, dot, underscore, colon and hyphen",
                    fix: "Send a name such as user123_scores.")
            }
            label = text
        }
    }

    /// - Parameter refusesKept: set where no kept answer is wanted.
    private mutating func take(_ directive: String, _ refusesKept: inout Bool) throws(Refusal) {
        let sides = directive.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
        switch sides.first?.lowercased() {
        case "no-store": if use != .only { use = .bypass }
        case "no-cache":
            refusesKept = true
            if use == .use { use = .refresh }
        case "only-if-cached": use = .only
        case "max-age":
            var value = sides.count == 2 ? String(sides[1]) : ""
            if value.count >= 2, value.hasPrefix("\""), value.hasSuffix("\"") {
                value = String(value.dropFirst().dropLast())
            }
            guard let seconds = Self.deltaSeconds(value) else {
                throw .malformedCacheField(
                    "Cache-Control", "has a max-age that is no number of seconds", fix: "Send max-age=60, for example.")
            }
            maximumAgeSeconds = min(maximumAgeSeconds ?? seconds, seconds)
        default: break
        }
    }

    private static func single(_ values: [String], _ name: String) throws(Refusal) -> String? {
        guard values.count <= 1 else {
            throw .malformedCacheField(name, "stands several times", fix: "Send it once.")
        }
        return values.first.map { trimmed($0[...]) }
    }

    /// More than 2^31 is that (RFC 9111, section 1.2.2).
    private static func deltaSeconds(_ text: String) -> Int64? {
        guard !text.isEmpty else { return nil }
        var seconds: Int64 = 0
        for byte in text.utf8 {
            guard (0x30...0x39).contains(byte) else { return nil }
            seconds = min(seconds * 10 + Int64(byte - 0x30), 1 << 31)
        }
        return seconds
    }

    /// At most a year.
    private static func seconds(_ text: String) -> Int64? {
        guard (1...10).contains(text.utf8.count), text.utf8.allSatisfy({ (0x30...0x39).contains($0) }),
            let number = Int64(text)
        else { return nil }
        return number <= 31_536_000 ? number : nil
    }

    private static func trimmed(_ text: Substring) -> String {
        var rest = text
        while let first = rest.utf8.first, first == 0x20 || first == 0x09 { rest = rest.dropFirst() }
        while let last = rest.utf8.last, last == 0x20 || last == 0x09 { rest = rest.dropLast() }
        return String(rest)
    }
}

extension Refusal {
    fileprivate static func malformedCacheField(_ name: String, _ message: String, fix: String) -> Refusal {
        Refusal(
            .badRequest, "\(name): \(message)", errors: [.init(location: name, message: message, fix: fix)])
    }
}
