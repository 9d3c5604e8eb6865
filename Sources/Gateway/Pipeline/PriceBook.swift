public import Domain
internal import Synchronization

/// The price sheets that were needed so far. A published version never changes, so what is here stays true.
public final class PriceBook: Sendable {
    private let source: any PriceSource
    private let sheets = Mutex<[TierVersionID: PriceSheet]>([:])

    public init(source: any PriceSource) { self.source = source }

    /// What needs no reading.
    func known(_ id: TierVersionID) -> PriceSheet? { sheets.withLock { $0[id] } }

    /// - Returns: `nil` if the version does not exist.
    public func sheet(_ id: TierVersionID) async throws(StoreUnavailable) -> PriceSheet? {
        if let known = known(id) { return known }
        guard let sheet = try await source.sheet(id) else { return nil }
        sheets.withLock { $0[id] = sheet }
        return sheet
    }
}
