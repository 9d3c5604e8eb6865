/// Whether and how the predictions of one model are cached. The operator chooses it with the model; off unless it is turned on.
public struct CachePolicy: Hashable, Sendable {
    /// What two requests must have in common to be the same question.
    public enum Sameness: String, Sendable, CaseIterable {
        /// The whole body in its canonical form, but for what does not reach the model.
        case canonicalJSON = "canonical_json"
        /// The numbers of the input alone, and how they are arranged; `1`, `1.0` and `1e0` are the same number.
        case tensors
    }

    /// Which answers of a generative model may be cached.
    public enum Generations: String, Sendable, CaseIterable {
        case none
        /// Those of a temperature of zero.
        case deterministic
        /// Those too whose request asks for it.
        case requested
    }

    /// Beyond the gateway's own memory, which is the first level of every cached model.
    public struct Levels: Hashable, Sendable {
        /// Shared by all gateways.
        public var redis: Bool
        /// Kept over restarts, in the table `prediction_cache`.
        public var table: Bool

        public init(redis: Bool = true, table: Bool = false) {
            self.redis = redis
            self.table = table
        }

        /// As in `memory,redis,table`; `nil` for anything but that.
        public init?(names: [String]) {
            guard Set(names).count == names.count, names.contains("memory"),
                names.allSatisfy({ ["memory", "redis", "table"].contains($0) })
            else { return nil }
            self.init(redis: names.contains("redis"), table: names.contains("table"))
        }

        public var names: [String] { ["memory"] + (redis ? ["redis"] : []) + (table ? ["table"] : []) }
    }

    public var isOn: Bool
    /// How long an answer is kept; `nil` is the installation's own setting.
    public var ttlSeconds: Int64?
    /// The longest that a request may ask for; `nil` is the installation's own setting, which is never exceeded.
    public var maximumTTLSeconds: Int64?
    public var sameness: Sameness
    public var levels: Levels
    public var generations: Generations

    public init(
        isOn: Bool, ttlSeconds: Int64? = nil, maximumTTLSeconds: Int64? = nil, sameness: Sameness = .tensors,
        levels: Levels = Levels(), generations: Generations = .deterministic
    ) {
        self.isOn = isOn
        self.ttlSeconds = ttlSeconds
        self.maximumTTLSeconds = maximumTTLSeconds
        self.sameness = sameness
        self.levels = levels
        self.generations = generations
    }

    public static let off = CachePolicy(isOn: false)

    /// How long an answer is kept.
    /// - Parameter asked: by the request; more than the maximum is the maximum.
    /// - Returns: whole seconds; 0 keeps nothing.
    public func ttlSeconds(asked: Int64?, default standard: Int64, maximum: Int64) -> Int64 {
        min(asked ?? ttlSeconds ?? standard, min(maximumTTLSeconds ?? maximum, maximum))
    }

    /// Whether the answer to a generative call may be cached. An answer that chance made is one of many; who asks again wants another one,
    /// unless it says otherwise.
    /// - Parameters:
    ///   - temperatureMillis: of the call, in thousandths; `nil` where the request leaves it to the model.
    ///   - isAskedFor: whether the request itself asks to be answered from the cache.
    public func permitsGeneration(temperatureMillis: Int64?, isAskedFor: Bool) -> Bool {
        guard isOn else { return false }
        switch generations {
        case .none: return false
        case .deterministic: return temperatureMillis == 0
        case .requested: return temperatureMillis == 0 || isAskedFor
        }
    }
}

/// Under what an answer lies: a code under the tenant's own secret, so that no two tenants ever share one, and nobody who sees a key can say
/// what was asked.
public struct CacheKey: Hashable, Sendable {
    public let words: (UInt64, UInt64, UInt64, UInt64)

    public init(_ first: UInt64, _ second: UInt64, _ third: UInt64, _ fourth: UInt64) {
        words = (first, second, third, fourth)
    }

    public static func == (left: CacheKey, right: CacheKey) -> Bool { left.words == right.words }

    /// The words are as good as random already.
    public func hash(into hasher: inout Hasher) { hasher.combine(words.0) }

    /// 64 hexadecimal digits.
    public var text: String {
        var digits: [UInt8] = []
        digits.reserveCapacity(64)
        for word in [words.0, words.1, words.2, words.3] {
            for shift in stride(from: UInt64(60), through: 0, by: -4) {
                digits.append(hexadecimalDigit(UInt8(truncatingIfNeeded: word >> shift) & 15))
            }
        }
        return String(decoding: digits, as: UTF8.self)
    }
}
