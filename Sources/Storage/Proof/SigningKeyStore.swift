public import Domain
public import PostgresDriver

/// The keys that sign, in PostgreSQL, the private halves sealed.
public struct SigningKeyStore: SigningKeyDirectory {
    private let directory: PostgresPool
    private let jobs: PostgresPool
    private let seal: SecretSeal

    /// - Parameters:
    ///   - directory: connections of the role `weir_directory`.
    ///   - jobs: connections of the role `weir_jobs`, for making the first key.
    ///   - pepper: what the key follows from under which private halves are kept.
    public init(directory: PostgresPool, jobs: PostgresPool, pepper: [UInt8]) {
        self.directory = directory
        self.jobs = jobs
        seal = SecretSeal(pepper: pepper, purpose: .signingKeys)
    }

    public func signingKeys() async throws(StoreUnavailable) -> SigningKeys {
        do throws(PostgresError) {
            var rows = try await directory.execute(ReadSigningKeys())
            if !rows.contains(where: { $0.key.state == .active }) {
                if let fresh = FreshSigningKey(seal: seal) { _ = try await jobs.execute(fresh.insertion) }
                rows = try await directory.execute(ReadSigningKeys())
            }
            let active = rows.first { $0.key.state == .active }
            return SigningKeys(
                keys: rows.map(\.key),
                activeSeed: active.flatMap { row in row.sealedSeed.flatMap { seal.open($0, of: row.key.id) } })
        } catch {
            throw StoreUnavailable(error)
        }
    }

    public func generation() async throws(StoreUnavailable) -> Int64 {
        do throws(PostgresError) {
            return try await directory.execute(ReadGeneration()).first ?? 0
        } catch {
            throw StoreUnavailable(error)
        }
    }
}
