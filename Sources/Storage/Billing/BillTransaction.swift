internal import Domain
internal import PostgresDriver

/// What an invoice follows from, on a connection whose transaction holds the tenant's bills.
struct BillTransaction: BillReading {
    let connection: PostgresConnection
    let account: BillingAccount
    let now: Timestamp

    func reading(from start: Timestamp, to end: Timestamp) async throws -> BillingReading {
        let parts = try await connection.execute(
            ReadRatingParts(tenantID: account.tenantID, start: start, end: end))
        let versions = Set(parts.map(\.tierVersionID)).sorted()
        let terms = TermsAssembly.terms(
            try await connection.execute(ReadTermsHeads(versions: versions)),
            try await connection.execute(ReadTermsPrices(versions: versions)),
            try await connection.execute(ReadTermsMultipliers(versions: versions)))
        let seen: String
        if let first = parts.first {
            seen = first.seen
        } else {
            seen = try await connection.execute(ReadLedgerSnapshot()).first ?? ""
        }
        return BillingReading(
            input: RatingInput(spans: parts.compactMap(\.span), usage: parts.compactMap(\.usage), terms: terms),
            seen: seen)
    }

    func billed(before end: Timestamp, limit: Int) async throws -> [BilledPeriod] {
        let periods = try await connection.execute(
            ReadBilledPeriods(tenantID: account.tenantID, before: end, limit: limit))
        var billed: [BilledPeriod] = []
        for period in periods {
            let standing = Set(period.standing)
            billed.append(
                try await self.billed(
                    period.start, period.end, period.timeZone, settled: standing,
                    leftAlone: Set(period.void).subtracting(standing)))
        }
        return billed
    }

    func billed(_ period: Period) async throws -> BilledPeriod {
        try await billed(period.start, period.end, account.timeZone, settled: [], leftAlone: [])
    }

    private func billed(
        _ start: Timestamp, _ end: Timestamp, _ timeZone: String, settled: Set<String>, leftAlone: Set<String>
    ) async throws -> BilledPeriod {
        let usage = try await connection.execute(ReadBilledUsage(tenantID: account.tenantID, start: start))
        let lines = try await connection.execute(
            ReadBilledLines(tenantID: account.tenantID, start: start, end: end))
        var currencies: [TierVersionID: String] = [:]
        for entry in usage { currencies[entry.usage.tierVersionID] = entry.currency }
        for entry in lines { if let version = entry.line.tierVersionID { currencies[version] = entry.currency } }
        return BilledPeriod(
            start: start, end: end, timeZone: timeZone, lines: lines.map(\.line), usage: usage.map(\.usage),
            seen: usage.first?.seen, currencies: currencies, settledCurrencies: settled,
            currenciesLeftAlone: leftAlone)
    }

    func credits(_ currency: String) async throws -> [CreditSource] {
        try await connection.execute(ReadCreditSources(tenantID: account.tenantID, currency: currency))
    }
}
