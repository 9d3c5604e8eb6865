import Domain

/// The two tenants of the tests and what is theirs. Numbers of which only the difference matters.
enum Seed {
    static let tenantA = TenantID(high: 0x0190_0000_0000_7000, low: 0x8000_0000_0000_000A)
    static let tenantB = TenantID(high: 0x0190_0000_0000_7000, low: 0x8000_0000_0000_000B)
    static let keyA = KeyID(high: 0x0190_0000_0000_7001, low: 0x8000_0000_0000_000A)
    static let keyA2 = KeyID(high: 0x0190_0000_0000_7001, low: 0x8000_0000_0000_00A2)
    static let keyB = KeyID(high: 0x0190_0000_0000_7001, low: 0x8000_0000_0000_000B)
    static let userA = UserID(high: 0x0190_0000_0000_7002, low: 0x8000_0000_0000_000A)
    static let tier = TierVersionID(high: 0x0190_0000_0000_7003, low: 0x8000_0000_0000_0001)
    static let draftTier = TierVersionID(high: 0x0190_0000_0000_7003, low: 0x8000_0000_0000_0002)
    /// A hard quota of tenant A: tokens a month.
    static let tokensA = QuotaID(high: 0x0190_0000_0000_7004, low: 0x8000_0000_0000_00A1)
    /// A hard quota of tenant A: requests a day.
    static let requestsA = QuotaID(high: 0x0190_0000_0000_7004, low: 0x8000_0000_0000_00A2)
    /// A hard quota of tenant B: tokens a month.
    static let tokensB = QuotaID(high: 0x0190_0000_0000_7004, low: 0x8000_0000_0000_00B1)
    /// The low half has its highest bit set, as every UUID's has: it becomes a negative lock number.
    static let gateway = GatewayID(high: 0x0190_0000_0000_7005, low: 0x9234_5678_9ABC_DEF1)
    static let otherGateway = GatewayID(high: 0x0190_0000_0000_7005, low: 0xA234_5678_9ABC_DEF2)

    static let script = """
        INSERT INTO tenants (tenant_id, name, time_zone, retention) VALUES
            ('\(tenantA)', 'Tenant A', 'Europe/Berlin', 'full'), ('\(tenantB)', 'Tenant B', 'UTC', 'none');
        INSERT INTO users (user_id, tenant_id, name) VALUES ('\(userA)', '\(tenantA)', 'Ada');
        INSERT INTO api_keys (key_id, tenant_id, user_id, public_id, digest, environment, last_four, scopes) VALUES
            ('\(keyA)', '\(tenantA)', '\(userA)', 'AAAAAAAAAAAA', decode(repeat('a1', 32), 'hex'), 'live', 'aaaa', '{predict,read}'),
            ('\(keyA2)', '\(tenantA)', NULL, 'A2A2A2A2A2A2', decode(repeat('a2', 32), 'hex'), 'test', 'a2a2', '{predict}'),
            ('\(keyB)', '\(tenantB)', NULL, 'BBBBBBBBBBBB', decode(repeat('b1', 32), 'hex'), 'live', 'bbbb', '{predict}');
        INSERT INTO tiers (code, name) VALUES ('plain', 'Plain');
        INSERT INTO tier_versions (tier_version_id, tier_code, version, currency) VALUES
            ('\(tier)', 'plain', 1, 'EUR'), ('\(draftTier)', 'plain', 2, 'EUR');
        INSERT INTO tier_prices (tier_version_id, meter, model, unit_price) VALUES
            ('\(tier)', 'request', '*', 0.0001), ('\(tier)', 'input_token', 'iris', 0.000000000001);
        INSERT INTO tier_quotas (tier_version_id, unit, frequency, amount) VALUES ('\(tier)', 'tokens', 'month', 1000000);
        UPDATE tier_versions SET state = 'published', published_at = now() WHERE tier_version_id = '\(tier)';
        INSERT INTO subscriptions (subscription_id, tenant_id, tier_version_id, starts_at) VALUES
            (gen_random_uuid(), '\(tenantA)', '\(tier)', now()), (gen_random_uuid(), '\(tenantB)', '\(tier)', now());
        INSERT INTO quotas (quota_id, tenant_id, unit, frequency, amount) VALUES
            ('\(tokensA)', '\(tenantA)', 'tokens', 'month', 1000000), ('\(requestsA)', '\(tenantA)', 'requests', 'day', 100000),
            ('\(tokensB)', '\(tenantB)', 'tokens', 'month', 1000000);
        """

    static let tokenQuotaA = Quota(id: tokensA, unit: .tokens, frequency: .month, amount: 1_000_000, mode: .hard)
    static let requestQuotaA = Quota(id: requestsA, unit: .requests, frequency: .day, amount: 100_000, mode: .hard)
    static let tokenQuotaB = Quota(id: tokensB, unit: .tokens, frequency: .month, amount: 1_000_000, mode: .hard)

    /// The period of a quota that contains this instant, in UTC.
    static func period(_ quota: Quota, at instant: Timestamp = MachineTime().now) -> Period {
        PeriodCalendar.utc.period(containing: instant, frequency: quota.frequency)
    }

    static func newLeaseID() -> LeaseID {
        var generator = SystemRandomNumberGenerator()
        return LeaseID(at: MachineTime().now, using: &generator)
    }

    static func newRequestID(at instant: Timestamp = MachineTime().now) -> RequestID {
        var generator = SystemRandomNumberGenerator()
        return RequestID(at: instant, using: &generator)
    }

    /// Asks for a lease on quotas of a tenant.
    static func request(
        _ wants: [(quota: Quota, minimum: Int64, wanted: Int64)], tenant: TenantID = tenantA,
        at instant: Timestamp = MachineTime().now
    ) -> LeaseRequest {
        LeaseRequest(
            leaseID: newLeaseID(), tenantID: tenant,
            wants: wants.map {
                LeaseRequest.Want(
                    quota: $0.quota, period: period($0.quota, at: instant), minimum: $0.minimum, wanted: $0.wanted)
            })
    }

    static func settlement(
        id: RequestID? = nil, tenant: TenantID = tenantA, key: KeyID = keyA, model: String = "iris",
        outcome: Settlement.Outcome = .completed, at instant: Timestamp = MachineTime().now, input: Int64 = 7,
        cached: Int64 = 2,
        output: Int64 = 3, tier: TierVersionID = tier, lease: LeaseID? = nil, prompt: String? = nil,
        promptDigest: [UInt8]? = nil,
        result: String? = nil, answer: ClaimedAnswer? = nil, resultID: ResultID? = nil, mediaType: String? = nil,
        generation: Int32 = 0, job: JobCompletion? = nil, tags: RequestTags? = nil,
        receipt: (any ReceiptOrder)? = nil, requests: Int64? = nil
    ) -> Settlement {
        let isBilled = outcome == .completed
        // A request of long ago has taken as long, or the database does not believe when it came.
        let age = MachineTime().now.microsecondsSince1970 - instant.microsecondsSince1970
        return Settlement(
            requestID: id ?? newRequestID(at: instant), tenantID: tenant, userID: tenant == tenantA ? userA : nil,
            keyID: key,
            model: model, modelVersion: "1", outcome: outcome, httpStatus: isBilled ? 200 : 502,
            errorCode: isBilled ? nil : "worker_failed", createdAt: instant, completedAt: instant,
            processingMicroseconds: age > 60_000_000 ? age : 1_234,
            estimatedTokens: input + output,
            usage: isBilled
                ? Usage(inputTokens: input, cachedInputTokens: cached, outputTokens: output, source: .worker) : .none,
            tierVersionID: tier, leaseID: lease, prompt: prompt.map { Array($0.utf8) }, promptDigest: promptDigest,
            result: result.map { Array($0.utf8) }, answer: answer,
            resultDigest: resultID == nil ? nil : [UInt8](repeating: 7, count: 32), resultID: resultID,
            resultMediaType: mediaType, retentionGeneration: generation, job: job, tags: tags, receipt: receipt,
            chargedRequests: requests)
    }
}
