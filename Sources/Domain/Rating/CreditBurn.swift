/// Money of a tenant's that pays for what was used while it was valid.
public struct CreditSource: Hashable, Sendable {
    public let grantID: CreditGrantID
    /// What other invoices have left of it.
    public let remaining: Micros
    /// The smaller one pays first.
    public let priority: Int16
    public let effectiveAt: Timestamp
    /// The end of its time, which its revocation may have brought forward; `nil` for one without an end.
    public let expiresAt: Timestamp?

    public init(
        grantID: CreditGrantID, remaining: Micros, priority: Int16, effectiveAt: Timestamp, expiresAt: Timestamp?
    ) {
        self.grantID = grantID
        self.remaining = remaining
        self.priority = priority
        self.effectiveAt = effectiveAt
        self.expiresAt = expiresAt
    }

    fileprivate func covers(_ start: Timestamp, _ end: Timestamp) -> Bool {
        effectiveAt <= start && expiresAt.map { end <= $0 } ?? true
    }

    /// Of two that could pay, which does: by priority, then by the earlier end, then by id.
    fileprivate static func paysBefore(_ left: CreditSource, _ right: CreditSource) -> Bool {
        if left.priority != right.priority { return left.priority < right.priority }
        if left.expiresAt != right.expiresAt {
            guard let leftEnd = left.expiresAt else { return false }
            return right.expiresAt.map { leftEnd < $0 } ?? true
        }
        return left.grantID < right.grantID
    }
}

/// What a grant pays of an invoice.
public struct CreditApplication: Hashable, Sendable {
    public let grantID: CreditGrantID
    public let amount: Micros

    public init(grantID: CreditGrantID, amount: Micros) {
        self.grantID = grantID
        self.amount = amount
    }
}

/// Which grants pay what of a period.
///
/// The period is cut at the edges of all grants. What a segment costs is the rated total up to its end less that up to its start: base fees
/// count where their spans begin, the minimum in the last segment. A segment is paid by the grants that are valid in all of it. One that is
/// negative, as volume prices can make it, is set against those behind it. What was paid in the end never exceeds what the whole period
/// costs: where a late segment gives back more than is open, the grants that paid last get it back.
public struct CreditBurn: Sendable {
    private let period: Period

    public init(period: Period) { self.period = period }

    /// Where the period is cut: its start, the edges of grants inside of it, its end.
    public func cuts(_ sources: [CreditSource]) -> [Timestamp] {
        let edges = sources.filter { $0.remaining > .zero }.flatMap { [$0.effectiveAt, $0.expiresAt] }.compactMap(
            \.self)
        return Set(edges.filter { period.start < $0 && $0 < period.end } + [period.start, period.end]).sorted()
    }

    /// - Parameters:
    ///   - totals: the rated total up to each cut but the first, in order; the last is the subtotal.
    ///   - cuts: from ``cuts(_:)`` of the same sources.
    /// - Returns: in the order in which they paid; none of them is zero.
    public func burn(totals: [Micros], cuts: [Timestamp], sources: [CreditSource]) -> [CreditApplication] {
        let ordered = sources.sorted(by: CreditSource.paysBefore)
        var left = ordered.map(\.remaining.value)
        var paid: [(source: Int, amount: Int64)] = []
        var carried: Int64 = 0
        var before: Int64 = 0
        for (index, total) in totals.enumerated() where index + 1 < cuts.count {
            var open = total.value - before + carried
            before = total.value
            carried = min(open, 0)
            for (number, source) in ordered.enumerated() where open > 0 && left[number] > 0 {
                guard source.covers(cuts[index], cuts[index + 1]) else { continue }
                let amount = min(open, left[number])
                left[number] -= amount
                open -= amount
                paid.append((number, amount))
            }
        }
        var excess = paid.reduce(0) { $0 + $1.amount } - max(0, before)
        while excess > 0, let last = paid.popLast() {
            if last.amount > excess { paid.append((last.source, last.amount - excess)) }
            excess -= last.amount
        }
        return merged(paid, ordered)
    }

    private func merged(_ paid: [(source: Int, amount: Int64)], _ ordered: [CreditSource]) -> [CreditApplication] {
        var sums: [Int: Int64] = [:]
        var order: [Int] = []
        for part in paid {
            if sums[part.source] == nil { order.append(part.source) }
            sums[part.source, default: 0] += part.amount
        }
        return order.map { CreditApplication(grantID: ordered[$0].grantID, amount: Micros(sums[$0] ?? 0)) }
    }
}
