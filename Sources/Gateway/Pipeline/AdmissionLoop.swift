#if WEIR_UNMETERED_BASELINE
    internal import Crypto
    public import Domain
    internal import Logging

    /// Admission alone, many times over, with nothing around it: what a request pays for authentication and quota while its lease is warm.
    public struct AdmissionLoop: Sendable {
        private let keys: KeyCache
        private let quota: QuotaKeeper
        private let rates: RateKeeper
        private let time: any TimeSource
        private let text: [UInt8]

        /// - Parameter isRateLimited: whether the caller has rate limits beside its quotas.
        public init(isRateLimited: Bool) {
            let time = SystemTime()
            self.time = time
            var random = SystemRandomNumberGenerator()
            let key = APIKey(environment: .live, using: &random)
            text = key.text
            let pepper = [UInt8](repeating: 7, count: 32)
            let limit = RateLimit(amount: RateLimit.amountLimit)
            let quotas = [
                Quota(
                    id: QuotaID(high: 1, low: 1), unit: .requests, frequency: .month, amount: 1 << 50, mode: .hard),
                Quota(
                    id: QuotaID(high: 1, low: 2), unit: .tokens, frequency: .month, amount: 1 << 60, mode: .hard),
            ]
            let scope = ScopeLimits(requests: limit, tokens: limit, concurrency: limit)
            let principal = Principal(
                tenantID: TenantID(high: 1, low: 3), keyID: KeyID(high: 1, low: 4), userID: nil, scopes: [.predict],
                allowedModels: nil, environment: .live, tierVersionID: TierVersionID(high: 1, low: 5), quotas: quotas,
                rateLimits: isRateLimited ? RateLimits(tenant: scope, key: scope) : nil, timeZone: "Europe/Berlin",
                retention: .none)
            let digest = Array(HMAC<SHA256>.authenticationCode(for: key.text, using: SymmetricKey(data: pepper)))
            let record = KeyRecord(
                publicID: key.publicID, digest: digest, expiresAt: nil, revokedAt: nil,
                holder: .customer(principal, .active))
            let logger = Logger(label: "admission")
            keys = KeyCache(directory: OneKey(record: record), pepper: pepper, time: time, logger: logger)
            quota = QuotaKeeper(
                ledger: PlentifulLedger(time: time), configuration: .init(), time: time, logger: logger)
            rates = RateKeeper(
                shared: nil,
                own: InProcessRateLimiter(
                    gatewayID: GatewayID(high: 1, low: 6), leaseMilliseconds: 600_000, time: time),
                configuration: .init(), time: time, logger: logger)
        }

        /// What of it is measured.
        public enum Part: String, Sendable, CaseIterable {
            /// Form and checksum of the key, its digest, and whose it is.
            case authentication
            /// Rate limits and quota: taken, admitted and settled.
            case limits
            /// The numbers for the headers.
            case readings
            case all
        }

        /// Nanoseconds for each of `count` requests of 64 tokens.
        public func nanoseconds(_ part: Part, count: Int) async throws(Refusal) -> Double {
            let credentials = Credentials.one(text)
            let principal = try await keys.customer(for: credentials)
            var leases: UInt64 = 0
            var sink = 0
            let start = time.monotonicNanoseconds
            for _ in 0..<count {
                let caller =
                    part == .authentication || part == .all ? try await keys.customer(for: credentials) : principal
                if part == .limits || part == .all {
                    let take = try await rates.take(tokens: 64, for: caller)
                    let hold = try await quota.hold(tokens: 64, for: caller) {
                        leases += 1
                        return LeaseID(high: 2, low: leases)
                    }
                    if let take { rates.admit(take, for: caller) }
                    if let hold, part == .all {
                        sink &+= quota.settleAndRead(hold, usedTokens: 20, for: caller).count
                    } else if let hold {
                        quota.settle(hold, usedTokens: 20, of: caller.tenantID)
                    }
                    if let take { rates.settle(take, usedTokens: 20, for: caller) }
                }
                if part == .readings { sink &+= quota.readings(for: caller).count }
                if part == .readings || part == .all { sink &+= rates.readings(for: caller).count }
                sink &+= caller.quotas.count
            }
            let end = time.monotonicNanoseconds
            precondition(sink > 0)
            return Double(end - start) / Double(count)
        }
    }

    private struct OneKey: KeyDirectory {
        let record: KeyRecord
        func find(_ publicIDs: [APIKey.PublicID]) async throws(StoreUnavailable) -> [KeyRecord] { [record] }
        func generation() async throws(StoreUnavailable) -> Int64 { 1 }
    }

    /// Grants whatever is asked.
    private struct PlentifulLedger: QuotaLedger {
        let time: SystemTime

        func acquire(_ request: LeaseRequest) async throws(StoreUnavailable) -> LeaseAnswer {
            .granted(
                request.wants.map {
                    .init(
                        slice: Lease.Slice(quota: $0.quota, period: $0.period, granted: $0.wanted),
                        freeAfterwards: 1 << 40)
                }, at: time.now)
        }

        func renew(_ leases: [LeaseID]) async throws(StoreUnavailable) -> LeaseRenewal {
            LeaseRenewal(open: Set(leases), scarce: [])
        }
        func giveBack(_ returns: [LeaseReturn]) async throws(StoreUnavailable) {}
        func close(_ leases: [LeaseID]) async throws(StoreUnavailable) {}
    }
#endif
