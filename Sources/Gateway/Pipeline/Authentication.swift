internal import Crypto
public import Domain
public import Logging
internal import Metrics
internal import Synchronization

/// Knows who is calling: an in-process snapshot of the keys that were used, one query on the first use of a key, and what changed since.
///
/// A key that is malformed or mistyped is refused by its checksum, before any I/O. A changed key, tenant, subscription or quota reaches
/// this snapshot by ``refresh()``, which the composition calls when the database's generation moves and at least twice a second.
public final class KeyCache: AdminAuthenticator {
    private struct State {
        var known: [APIKey.PublicID: KnownKey] = [:]
        /// Public ids that do not exist, with the monotonic time until which that is believed.
        var unknown: [APIKey.PublicID: UInt64] = [:]
        var waiting: [APIKey.PublicID: [CheckedContinuation<LookUp?, Never>]] = [:]
        var generation: Int64 = 0
        /// Readings by ``refresh()``, counted as they begin, and the last whose answer was taken.
        var begun = 0
        var taken = 0
    }

    private enum LookUp: Sendable {
        case found(KnownKey)
        case unknown
        case away(cause: String)
    }

    private static let unknownLimit = 65_536
    private static let unknownNanoseconds: UInt64 = 5_000_000_000

    private let directory: any KeyDirectory
    /// Has read the pepper and nothing else; a copy reads a key. Setting it up costs more than the rest of a check.
    private let keyedHash: HMAC<SHA256>
    private let tagSecret: TagSecret
    private let time: any TimeSource
    private let logger: Logger
    private let state = Mutex(State())
    private let misses = Counter(label: "weir_key_lookups_total")

    /// - Parameter pepper: the secret under which digests were made, at least 32 bytes.
    public init(directory: any KeyDirectory, pepper: [UInt8], time: any TimeSource, logger: Logger) {
        self.directory = directory
        keyedHash = HMAC<SHA256>(key: SymmetricKey(data: pepper))
        var random = SystemRandomNumberGenerator()
        tagSecret = TagSecret(using: &random)
        self.time = time
        self.logger = logger
    }

    /// The customer who presents these credentials.
    /// - Parameter spends: whether what it asks for is charged; a balance that is used up refuses no reads.
    func customer(for credentials: Credentials, spends: Bool = false) async throws(Refusal) -> Principal {
        switch try await holder(of: credentials) {
        case .customer(let principal, .active): return principal
        case .customer(let principal, .exhausted(let balance)):
            guard !spends else { throw .balanceExhausted(balance) }
            return principal
        case .customer(_, .suspended):
            throw Refusal(.tenantSuspended, "The account is suspended. Contact the operator of this service.")
        case .customer(_, .unsubscribed):
            throw Refusal(.tenantSuspended, "The account has no subscription. Contact the operator of this service.")
        case .admin: throw Refusal(.wrongPlane, "An admin key cannot be used here. Use a customer's key.")
        }
    }

    /// The customer whose key has this public id, for a job that was submitted with it: the key was presented then.
    /// - Throws: as ``customer(for:)``, and `insufficient_scope`.
    func principal(of id: APIKey.PublicID?) async throws(Refusal) -> Principal {
        guard let id else { throw .invalidKey }
        let known: KnownKey
        if let found = state.withLock({ $0.known[id] }) { known = found } else { known = try await lookUp(id) }
        guard case .customer(let principal, let standing) = try known.holder(at: time) else { throw .invalidKey }
        if case .exhausted(let balance) = standing { throw .balanceExhausted(balance) }
        guard standing == .active else {
            throw Refusal(.tenantSuspended, "The account is suspended or has no subscription.")
        }
        guard principal.scopes.contains(.predict) else {
            throw Refusal(.insufficientScope, "The key may not call models.")
        }
        return principal
    }

    public func administrator(presenting key: [UInt8]?) async throws(Refusal) -> AdminPrincipal {
        switch try await holder(of: key.map { .one($0) } ?? .none) {
        case .admin(let principal): return principal
        case .customer: throw Refusal(.wrongPlane, "A customer's key cannot administrate. Use an admin key.")
        }
    }

    private func holder(of credentials: Credentials) async throws(Refusal) -> KeyRecord.Holder {
        if case .one(let text) = credentials, let known = verified(text) { return try known.holder(at: time) }
        let key = try Self.parse(credentials)
        let known: KnownKey
        if let found = state.withLock({ $0.known[key.publicID] }) {
            known = found
        } else {
            known = try await lookUp(key.publicID)
        }
        var hash = keyedHash
        hash.update(data: key.text)
        // The comparison of a code with bytes takes the same time wherever they differ.
        guard hash.finalize() == known.record.digest else { throw .invalidKey }
        known.remember(key.text.withUnsafeBytes { tagSecret.tag(of: $0) })
        return try known.holder(at: time)
    }

    /// The key whose very bytes were found to have its digest since it was read.
    private func verified(_ text: [UInt8]) -> KnownKey? {
        text.withUnsafeBytes { bytes in
            guard let id = APIKey.PublicID(unchecked: bytes), let known = state.withLock({ $0.known[id] }),
                known.isVerified(tagSecret.tag(of: bytes))
            else { return nil }
            return known
        }
    }

    /// Who a request began as, or the same caller as known now, if less of it may be kept by now: a request can take minutes, and a stricter
    /// policy counts within a second.
    func strictest(_ principal: Principal, presenting credentials: Credentials) -> Principal {
        guard principal.retention != .none, case .one(let bytes) = credentials, let key = APIKey(parsing: bytes),
            case .customer(let current, _) = state.withLock({ $0.known[key.publicID] })?.record.holder,
            current.keyID == principal.keyID, !principal.retention.isStricter(than: current.retention)
        else { return principal }
        return current
    }

    /// Reads anew every key that is in memory if the database's generation has moved.
    public func refresh() async throws(StoreUnavailable) {
        let generation = try await directory.generation()
        let reading = state.withLock { state -> (number: Int, ids: [APIKey.PublicID])? in
            guard state.generation != generation else { return nil }
            state.begun += 1
            return (state.begun, Array(state.known.keys))
        }
        guard let (number, ids) = reading else { return }
        let asked = Set(ids)
        var fresh: [APIKey.PublicID: KnownKey] = [:]
        for start in stride(from: 0, to: ids.count, by: 1_000) {
            for record in try await directory.find(Array(ids[start..<min(start + 1_000, ids.count)])) {
                fresh[record.publicID] = KnownKey(record)
            }
        }
        state.withLock { state in
            // A reading that began earlier and ended later must not bring back what was revoked since.
            guard number > state.taken else { return }
            state.taken = number
            for id in ids { state.known[id] = fresh[id] }
            state.unknown.removeAll(keepingCapacity: true)
            // A key that came into memory meanwhile may be older than this generation: the next refresh reads it again.
            state.generation = state.known.keys.allSatisfy(asked.contains) ? generation : .min
        }
    }

    private static func parse(_ credentials: Credentials) throws(Refusal) -> APIKey {
        switch credentials {
        case .none:
            throw Refusal(.missingKey, "Send your API key in the header Authorization: Bearer <key>.")
        case .conflicting:
            throw Refusal(.badRequest, "The request carries two different keys. Send one.")
        case .unusable: throw .invalidKey
        case .one(let bytes):
            guard let key = APIKey(parsing: bytes) else { throw .invalidKey }
            return key
        }
    }

    /// One query for all requests that wait for the same key.
    private func lookUp(_ id: APIKey.PublicID) async throws(Refusal) -> KnownKey {
        enum Turn {
            case done(LookUp)
            case ask(generation: Int64)
            case wait
        }
        while true {
            let now = time.monotonicNanoseconds
            let turn = state.withLock { state -> Turn in
                if let record = state.known[id] { return .done(.found(record)) }
                if let until = state.unknown[id], until > now { return .done(.unknown) }
                guard state.waiting[id] == nil else { return .wait }
                state.waiting[id] = []
                return .ask(generation: state.generation)
            }
            let result: LookUp?
            switch turn {
            case .done(let known): result = known
            case .ask(let generation): result = await ask(id, startedAt: generation, now: now)
            case .wait: result = await join(id)
            }
            switch result {
            case .found(let record): return record
            case .unknown: throw .invalidKey
            case .away(let cause): throw .storeAway(cause: cause)
            case nil: continue
            }
        }
    }

    /// - Returns: what the request that asks was told; `nil` if it has been told already.
    private func join(_ id: APIKey.PublicID) async -> LookUp? {
        await withCheckedContinuation { continuation in
            let isStillAsked = state.withLock { state -> Bool in
                guard state.waiting[id] != nil else { return false }
                state.waiting[id]?.append(continuation)
                return true
            }
            if !isStillAsked { continuation.resume(returning: nil) }
        }
    }

    private func ask(_ id: APIKey.PublicID, startedAt generation: Int64, now: UInt64) async -> LookUp {
        misses.increment()
        let result: LookUp
        do throws(StoreUnavailable) {
            result = try await directory.find([id]).first.map { .found(KnownKey($0)) } ?? .unknown
        } catch {
            result = .away(cause: error.cause)
        }
        let waiting = state.withLock { state -> [CheckedContinuation<LookUp?, Never>] in
            switch result {
            case .found(let record):
                state.known[id] = record
                // Read before a change that a refresh has dealt with meanwhile, perhaps: the next refresh reads it again.
                if state.generation != generation { state.generation = .min }
            case .unknown:
                if state.unknown.count >= Self.unknownLimit { state.unknown.removeAll(keepingCapacity: true) }
                state.unknown[id] = now + Self.unknownNanoseconds
            case .away: break
            }
            return state.waiting.removeValue(forKey: id) ?? []
        }
        for continuation in waiting { continuation.resume(returning: result) }
        return result
    }
}

extension Refusal {
    /// One text for every reason: which part of a key is wrong is nobody's business.
    static let invalidKey = Refusal(
        .invalidAPIKey,
        "The API key is mistyped, unknown, revoked or expired. Check it, or ask the owner of the account for a new one."
    )

    static func storeAway(cause: String) -> Refusal {
        Refusal(
            .meteringUnavailable,
            "Usage cannot be recorded at the moment, so nothing is served. Try again in a few seconds.",
            retryAfterSeconds: 2, cause: cause)
    }
}

extension Refusal {
    static func balanceExhausted(_ balance: PrepaidBalance?) -> Refusal {
        let found = balance.map { ": it came to \($0.amount.value) micros of \($0.currency) at \($0.lookedAt)" } ?? ""
        return Refusal(
            .balanceExhausted,
            "The prepaid balance is used up\(found). Top it up, and send the request again after some seconds.")
    }
}
