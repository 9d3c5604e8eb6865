public import Domain
public import PostgresDriver

/// Reads price sheets.
public struct PriceStore: PriceSource {
    private let pool: PostgresPool

    /// - Parameter pool: connections of the role `weir_directory`.
    public init(pool: PostgresPool) { self.pool = pool }

    public func sheet(_ id: TierVersionID) async throws(StoreUnavailable) -> PriceSheet? {
        do throws(PostgresError) {
            let rows = try await pool.execute(ReadPrices(id: id))
            guard let first = rows.first else { return nil }
            return PriceSheet(
                tierVersionID: id, tierCode: first.tierCode, version: first.version, currency: first.currency,
                cacheHitTokenPercent: Int64(first.cacheHitTokenPercent),
                streamLeave: first.streamLeave, prices: rows.compactMap(\.price))
        } catch {
            throw StoreUnavailable(error)
        }
    }
}

struct ReadPrices: PostgresStatement {
    struct Entry: Sendable {
        let tierCode: String
        let version: Int32
        let currency: String
        let cacheHitTokenPercent: Int16
        let streamLeave: StreamLeave?
        let price: PriceSheet.Price?
    }

    static let sql = """
        SELECT v.tier_code, v.version, v.currency, v.cache_hit_token_percent, v.stream_leave, p.meter, p.model, p.unit_price::text
        FROM tier_versions v LEFT JOIN tier_prices p ON p.tier_version_id = v.tier_version_id
        WHERE v.tier_version_id = $1 AND v.state <> 'draft'
        """
    static let parameters: [PostgresType] = [.uuid]
    static let columns: [PostgresType] = [.text, .int4, .text, .int2, .text, .text, .text, .text]

    let id: TierVersionID

    func bind(to binds: inout PostgresBinds) { binds.append(id.postgres) }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> Entry {
        let tierCode = try row.text()
        let version = try row.int32()
        let currency = try row.text()
        let cacheHitTokenPercent = try row.int16()
        let streamLeave = try row.optionalText().flatMap { StreamLeave(rawValue: $0) }
        let meter = try row.optionalText()
        let model = try row.optionalText()
        let price = try row.optionalText()
        guard let meter, let model, let price else {
            return Entry(
                tierCode: tierCode, version: version, currency: currency, cacheHitTokenPercent: cacheHitTokenPercent,
                streamLeave: streamLeave,
                price: nil)
        }
        // A price that this build cannot read must not turn into a free one.
        guard let known = Meter(rawValue: meter), let unitPrice = UnitPrice(decimal: price) else {
            throw row.failure(7, "is no unit price that this build can read")
        }
        return Entry(
            tierCode: tierCode, version: version, currency: currency, cacheHitTokenPercent: cacheHitTokenPercent,
                streamLeave: streamLeave,
            price: PriceSheet.Price(meter: known, model: model, unitPrice: unitPrice))
    }
}
