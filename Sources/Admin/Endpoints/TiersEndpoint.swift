internal import Domain
internal import HTTPListener
internal import Hummingbird

/// `/admin/v1/tiers`: prices and quotas.
struct TiersEndpoint: Sendable {
    let administration: any Administration

    func list(_ call: AdminCall) async throws -> Response {
        let page = try await administration.tiers(try call.query.page(QueryParameters.nameCursor))
        return try .json(ListAnswer(page, cursor: \.code, TierAnswer.init))
    }

    func create(_ call: AdminCall) async throws -> Response {
        let input = try await RequestBodyReader.object(call, fields: ["code", "name", "version"])
        let code = input.required("code", .tierCode)
        let name = input.required("name", .name)
        let version = input.object(
            "version",
            fields: [
                "currency", "base_fee_micros", "prices", "quotas", "rate_limits", "cache_hit_token_percent",
                "stream_leave",
                "result_ttl_seconds",
            ])
        let currency = version?.required("currency", .currency)
        let baseFee = version?.optional("base_fee_micros", .integer(0...Int64.max)) ?? 0
        let hitPercent = version?.optional("cache_hit_token_percent", .integer(0...100)) ?? 100
        let streamLeave = version?.nullable("stream_leave", .oneOf(StreamLeave.allCases))
        let resultTTL =
            version?.optional("result_ttl_seconds", .integer(1...TenantsEndpoint.longestResultTTLSeconds)) ?? 86_400
        let prices = version.map(Self.prices) ?? []
        let quotas = version.map(Self.quotas) ?? []
        let rateLimits = version?.rateLimits(.tier) ?? []
        try input.problems.check()
        guard let code, let name, let currency else { throw input.problems.refusal }
        let row = try await administration.createTier(
            NewTier(
                code: code, name: name, currency: currency, baseFee: Micros(baseFee), prices: prices, quotas: quotas,
                rateLimits: rateLimits, cacheHitTokenPercent: hitPercent, streamLeave: streamLeave,
                resultTTLSeconds: resultTTL),
            by: call.actor)
        return try .json(TierAnswer(row), status: .created)
    }

    private static func prices(_ version: InputObject) -> [PriceSheet.Price] {
        var prices: [PriceSheet.Price] = []
        var seen: Set<[String]> = []
        for item in version.objects("prices", count: 0...10_000, fields: ["meter", "model", "unit_price"]) {
            let meter = item.required("meter", .oneOf(Meter.allCases))
            let model = item.required("model", .modelNameOrAny)
            let unitPrice = item.required("unit_price", .unitPrice)
            guard let meter, let model, let unitPrice else { continue }
            if !seen.insert([meter.rawValue, model]).inserted {
                item.note(
                    "meter", "has a price for this model already", fix: "Send one price for each meter and model.")
            }
            prices.append(PriceSheet.Price(meter: meter, model: model, unitPrice: unitPrice))
        }
        return prices
    }

    private static func quotas(_ version: InputObject) -> [QuotaRule] {
        var quotas: [QuotaRule] = []
        var seen: Set<[String]> = []
        let fields: Set<String> = ["unit", "frequency", "amount", "mode", "alignment", "thresholds_percent"]
        for item in version.objects("quotas", count: 0...16, fields: fields) {
            let unit = item.required("unit", .oneOf(QuotaUnit.allCases))
            let frequency = item.required("frequency", .oneOf(Frequency.allCases))
            let amount = item.required("amount", .integer(0...Int64.max))
            let mode = item.required("mode", .oneOf(QuotaMode.allCases))
            let alignment = item.optional("alignment", .oneOf(QuotaAlignment.allCases)) ?? .calendar
            let thresholds = item.optional("thresholds_percent", .thresholds) ?? .standard
            guard let unit, let frequency, let amount, let mode else { continue }
            if !seen.insert([unit.rawValue, frequency.rawValue]).inserted {
                item.note(
                    "unit", "has a quota of this frequency already", fix: "Send one quota for each unit and frequency.")
            }
            quotas.append(
                QuotaRule(
                    unit: unit, frequency: frequency, amount: amount, mode: mode, alignment: alignment,
                    thresholds: thresholds))
        }
        return quotas
    }
}

private struct TierAnswer: Encodable {
    struct Version: Encodable {
        let id: String
        let number: Int32
        let state: String
        let currency: String
        let baseFeeMicros: Int64
        let cacheHitTokenPercent: Int64
        let streamLeave: String?
        let resultTTLSeconds: Int64
        let prices: [Price]
        let quotas: [Rule]
        let rateLimits: [RateLimitAnswer]
        let createdAt: String

        enum CodingKeys: String, CodingKey {
            case id, number, state, currency, prices, quotas
            case baseFeeMicros = "base_fee_micros"
            case cacheHitTokenPercent = "cache_hit_token_percent"
            case streamLeave = "stream_leave"
            case resultTTLSeconds = "result_ttl_seconds"
            case rateLimits = "rate_limits"
            case createdAt = "created_at"
        }
    }

    struct Price: Encodable {
        let meter: String
        let model: String
        let unitPrice: String

        enum CodingKeys: String, CodingKey {
            case meter, model
            case unitPrice = "unit_price"
        }
    }

    struct Rule: Encodable {
        let unit: String
        let frequency: String
        let amount: Int64
        let mode: String
        let alignment: String
        let thresholdsPercent: [Int16]

        enum CodingKeys: String, CodingKey {
            case unit, frequency, amount, mode, alignment
            case thresholdsPercent = "thresholds_percent"
        }
    }

    let code: String
    let object = "tier"
    let name: String
    let version: Version
    let createdAt: String

    enum CodingKeys: String, CodingKey {
        case code, object, name, version
        case createdAt = "created_at"
    }

    init(_ row: TierRow) {
        code = row.code
        name = row.name
        version = Version(
            id: row.version.id.priceVersion, number: row.version.number, state: row.version.state.rawValue,
            currency: row.version.currency, baseFeeMicros: row.version.baseFee.value,
            cacheHitTokenPercent: row.version.cacheHitTokenPercent,
            streamLeave: row.version.streamLeave?.rawValue, resultTTLSeconds: row.version.resultTTLSeconds,
            prices: row.version.prices.map {
                Price(meter: $0.meter.rawValue, model: $0.model, unitPrice: $0.unitPrice.description)
            },
            quotas: row.version.quotas.map {
                Rule(
                    unit: $0.unit.rawValue, frequency: $0.frequency.rawValue, amount: $0.amount, mode: $0.mode.rawValue,
                    alignment: $0.alignment.rawValue, thresholdsPercent: $0.thresholds.percents)
            },
            rateLimits: row.version.rateLimits.map { RateLimitAnswer($0) },
            createdAt: row.version.createdAt.description)
        createdAt = row.createdAt.description
    }
}
