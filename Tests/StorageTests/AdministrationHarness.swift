import Domain
import Glibc
import Logging
import PostgresDriver
import Storage
import TestSupport

/// A migrated database of a test's own with the administration on it.
struct AdministrationHarness: Sendable {
    let url: String
    let store: AdministrationStore
    let pool: PostgresPool
    let reports: PostgresPool
    let time = HeldTime()

    static let pepper = Array("a pepper of at least thirty-two bytes".utf8)
    static let logger = Logger(label: "test", factory: { _ in SwiftLogNoOpLogHandler() })
    static let actor = AuditActor.key(publicID("ADMINadmin01"))

    static func with<T: Sendable>(_ body: (AdministrationHarness) async throws -> T) async throws -> T {
        try await MigratedDatabase.withDatabase { url in
            let harness = try AdministrationHarness(url: url)
            let result: Result<T, any Error>
            do {
                result = .success(try await body(harness))
            } catch {
                result = .failure(error)
            }
            await harness.pool.shutdown()
            await harness.reports.shutdown()
            return try result.get()
        }
    }

    private init(url: String) throws {
        self.url = url
        pool = try Self.pool(url, role: "weir_admin")
        reports = try Self.pool(url, role: "weir_reports")
        store = AdministrationStore(pool: pool, reports: reports, pepper: Self.pepper, time: time)
    }

    static func pool(_ url: String, role: String?) throws -> PostgresPool {
        try PostgresPool(
            // Nothing runs out of time unless a test wants it to.
            configuration: PostgresConfiguration(
                url: url, role: role, connectTimeoutMilliseconds: 60_000, answerTimeoutMilliseconds: 120_000),
            options: PostgresPool.Options(
                name: role ?? "owner", maximumConnections: 4, queueTimeoutMilliseconds: 120_000), logger: logger)
    }

    /// Runs a body with a pool of a role, which is closed afterwards.
    func asRole<T>(_ role: String?, _ body: (PostgresPool) async throws -> T) async throws -> T {
        let pool = try Self.pool(url, role: role)
        let result: Result<T, any Error>
        do {
            result = .success(try await body(pool))
        } catch {
            result = .failure(error)
        }
        await pool.shutdown()
        return try result.get()
    }

    func texts(_ statement: some TextStatement, role: String? = nil) async throws -> [String] {
        try await asRole(role) { pool in try await pool.execute(statement) }
    }

    /// A tier, by default one without a limit that a test could reach.
    @discardableResult
    func makeTier(
        _ code: String = "plain",
        quotas: [QuotaRule] = [QuotaRule(unit: .requests, frequency: .month, amount: 1_000, mode: .hard)]
    ) async throws -> TierRow {
        try await store.createTier(
            NewTier(
                code: code, name: "Tier \(code)", currency: "EUR", baseFee: Micros(49_000_000),
                prices: [
                    PriceSheet.Price(meter: .request, model: "*", unitPrice: UnitPrice(picos: 100_000_000)),
                    PriceSheet.Price(meter: .inputToken, model: "iris", unitPrice: UnitPrice(picos: 1)),
                ],
                quotas: quotas),
            by: Self.actor)
    }

    func makeTenant(_ name: String = "Example", tier: String = "plain") async throws -> TenantRow {
        try await store.createTenant(
            NewTenant(name: name, timeZone: "Europe/Berlin", state: .active, retention: .none, tierCode: tier),
            by: Self.actor)
    }
}

func publicID(_ text: String) -> APIKey.PublicID {
    guard let id = APIKey.PublicID(text) else { preconditionFailure("twelve characters of base 62") }
    return id
}

/// A clock that a test moves. Every reading is a millisecond later, so that identifiers come in the order in which they
/// are made.
final class HeldTime: TimeSource {
    private let milliseconds = AtomicCounter()

    var now: Timestamp {
        Timestamp(microsecondsSince1970: 1_772_366_400_000_000).advanced(byMilliseconds: Int64(milliseconds.next()))
    }

    var monotonicNanoseconds: UInt64 { UInt64(milliseconds.next()) * 1_000_000 }
}

/// A statement of a test whose rows are one text each.
protocol TextStatement: PostgresStatement where Row == String {}

extension TextStatement {
    static var columns: [PostgresType] { [.text] }
    static func row(from row: inout PostgresRow) throws(PostgresError) -> String { try row.text() }
}
