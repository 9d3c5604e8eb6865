import Domain

/// Brings the database up to date and puts the demo tenant into it.
enum DevSeed {
    /// - Returns: the demo tenant's id.
    static func prepare(databaseURL: String, secrets: DevSecrets, workerAddress: WorkerAddress) async throws -> String {
        throw CommandFailure("this build cannot prepare a database yet")
    }
}
