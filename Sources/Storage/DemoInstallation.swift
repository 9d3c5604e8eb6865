public import Domain
internal import Glibc
public import Logging
internal import PostgresDriver

/// What `weir dev` begins with: three tiers, a tenant with a key, an administrator's key, and the iris model with its
/// worker.
///
/// Whatever is there already stays as it is, except the route, which follows the worker. A key that was revoked stays
/// revoked.
public enum DemoInstallation {
    public struct Result: Hashable, Sendable {
        public let tenantID: TenantID

        public init(tenantID: TenantID) { self.tenantID = tenantID }
    }

    /// What is wrong with what the installation was asked for.
    public enum Failure: Error, Hashable, Sendable, CustomStringConvertible {
        /// The text is no API key of that environment.
        case unusableKey(APIKey.Environment)

        public var description: String {
            switch self {
            case .unusableKey(let environment): "the \(environment.rawValue) key of the demo installation is no API key"
            }
        }
    }

    /// Fixed, so that every start finds the tenant of the one before.
    private static let tenantID = TenantID(high: 0x0195_5000_0000_7000, low: 0x8000_0000_0000_0001)
    private static let userID = UserID(high: 0x0195_5000_0000_7000, low: 0x8000_0000_0000_0002)

    /// Makes what is missing, all of it in one transaction.
    ///
    /// - Parameters:
    ///   - databaseURL: of the migrated database; the login must be a member of the role `weir_admin`.
    ///   - pepper: the secret under which keys are digested, the gateway's.
    ///   - customerKey: a `live` key.
    ///   - adminKey: an `admn` key.
    ///   - workerAddress: where the iris model is served by plain JSON.
    /// - Throws: ``Failure``; ``AdministrationFailure``; the driver's error for a URL that cannot be used.
    public static func ensure(
        databaseURL: String, pepper: [UInt8], customerKey: String, adminKey: String, workerAddress: WorkerAddress,
        logger: Logger
    ) async throws -> Result {
        let digest = KeyDigest(pepper: pepper)
        let keys = [
            try Key(
                customerKey, .live, digest, tenantID: tenantID, scopes: [.predict, .read, .billing, .keys, .webhooks],
                name: "demo"
            ),
            try Key(adminKey, .admin, digest, tenantID: nil, scopes: [.admin], name: "demo administrator"),
        ]
        let pool = try PostgresPool(
            // Waiting for another start is a statement too: its limit has to be above that of ``LockDemo``.
            configuration: PostgresConfiguration(
                url: databaseURL, role: "weir_admin", statementTimeoutMilliseconds: 25_000,
                lockTimeoutMilliseconds: 5_000),
            options: PostgresPool.Options(name: "demo", maximumConnections: 1, queueTimeoutMilliseconds: 10_000),
            logger: logger)
        let outcome: Swift.Result<Void, PostgresTransactionError>
        do throws(PostgresTransactionError) {
            try await pool.transaction { connection in
                try await fill(
                    AdministrationTransaction(connection: connection, actor: .system, time: WallClock()), keys,
                    workerAddress)
            }
            outcome = .success(())
        } catch {
            outcome = .failure(error)
        }
        await pool.shutdown()
        if case .failure(let error) = outcome { throw AdministrationFailure(error) }
        return Result(tenantID: tenantID)
    }

    private static func fill(
        _ transaction: AdministrationTransaction, _ keys: [Key], _ workerAddress: WorkerAddress
    ) async throws {
        let connection = transaction.connection
        // Two starts at once would both find nothing and both make it.
        _ = try await connection.execute(LockDemo())
        for tier in tiers where try await connection.execute(FindTier(code: tier.code)).isEmpty {
            _ = try await transaction.createTier(tier)
        }
        if try await connection.execute(FindTenant(id: tenantID)).isEmpty {
            let demo = NewTenant(name: "Demo", timeZone: "UTC", state: .active, retention: .full, tierCode: "premium")
            _ = try await transaction.createTenant(demo, id: tenantID)
        }
        if try await connection.affectedRows(by: InsertUser(id: userID, tenantID: tenantID, name: "Demo")) == 1 {
            try await transaction.audit(
                "user.create", "user", userID.description, tenantID: tenantID, before: nil, after: #"{"name": "Demo"}"#)
        }
        for key in keys {
            if let row = try await connection.execute(FindKey(key: .publicID(key.key.publicID))).first {
                _ = try await connection.execute(ReplaceKeyDigest(id: row.id, digest: key.digest))
            } else {
                _ = try await transaction.insertKey(
                    InsertKey(
                        id: transaction.newID(), tenantID: key.tenantID, userID: key.tenantID == nil ? nil : userID,
                        key: key.key,
                        digest: key.digest, name: key.name, scopes: key.scopes, allowedModels: nil, expiresAt: nil))
            }
        }
        if try await connection.execute(LockModel(name: iris.name)).isEmpty {
            _ = try await transaction.registerModel(iris)
        }
        _ = try await transaction.setRoute(
            iris.name, [Replica(address: workerAddress, workerProtocol: .predict, weight: 1, version: iris.version)])
    }

    private static let iris = ModelProfile(
        name: "iris", version: "1", featureCount: 4, fixedTokensPerRequest: 1, maximumOutputTokens: 64)

    /// Their tokens are those of the simple rule (``TierAnalysis/simpleRule(_:)``): who uses more in a month belongs on the next one.
    private static let tiers = [
        tier("basic", "Basic", fee: 0, prices: (100_000_000, 500_000, 1_500_000), requests: 10_000, tokens: 100_000),
        tier(
            "standard", "Standard", fee: 49_000_000, prices: (50_000_000, 250_000, 750_000), requests: 1_000_000,
            tokens: 1_000_000),
        tier(
            "premium", "Premium", fee: 499_000_000, prices: (20_000_000, 100_000, 300_000), requests: 100_000_000,
            tokens: 100_000_000_000),
    ]

    /// - Parameters:
    ///   - fee: per month, in micro-units.
    ///   - prices: of a request, an input token and an output token, in millionths of a micro-unit.
    private static func tier(
        _ code: String, _ name: String, fee: Int64, prices: (Int64, Int64, Int64), requests: Int64, tokens: Int64
    ) -> NewTier {
        let meters: [(Meter, Int64)] = [(.request, prices.0), (.inputToken, prices.1), (.outputToken, prices.2)]
        return NewTier(
            code: code, name: name, currency: "EUR", baseFee: Micros(fee),
            prices: meters.map { meter, picos in
                PriceSheet.Price(meter: meter, model: PriceSheet.anyModel, unitPrice: UnitPrice(picos: picos))
            },
            quotas: [
                QuotaRule(unit: .requests, frequency: .month, amount: requests, mode: .hard),
                QuotaRule(unit: .tokens, frequency: .month, amount: tokens, mode: .hard),
            ])
    }

    private struct Key {
        let key: APIKey
        let digest: [UInt8]
        let tenantID: TenantID?
        let scopes: Set<Scope>
        let name: String

        init(
            _ text: String, _ environment: APIKey.Environment, _ digest: KeyDigest, tenantID: TenantID?,
            scopes: Set<Scope>, name: String
        ) throws(Failure) {
            guard let key = APIKey(parsing: Array(text.utf8)), key.environment == environment else {
                throw .unusableKey(environment)
            }
            self.key = key
            self.digest = digest(key)
            self.tenantID = tenantID
            self.scopes = scopes
            self.name = name
        }
    }
}

/// Waits longer than the role would: several starts at once on a busy machine are served one after the other.
struct LockDemo: PostgresStatement {
    static let sql = """
        SELECT pg_advisory_xact_lock(hashtext('weir.demo_installation'))
        FROM (SELECT set_config('lock_timeout', '20s', true)) AS patience
        """
}

/// The wall clock, for the identifiers of what is made here.
private struct WallClock: TimeSource {
    var now: Timestamp {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        return Timestamp(microsecondsSince1970: Int64(time.tv_sec) * 1_000_000 + Int64(time.tv_nsec) / 1_000)
    }

    var monotonicNanoseconds: UInt64 {
        var time = timespec()
        clock_gettime(CLOCK_BOOTTIME, &time)
        return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
    }
}
