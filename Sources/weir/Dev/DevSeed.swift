import Domain
import Logging
import Storage

/// Brings the database up to date and puts the demo tenant into it.
enum DevSeed {
    /// - Returns: the demo tenant's id.
    static func prepare(databaseURL: String, secrets: DevSecrets, workerAddress: WorkerAddress) async throws -> String {
        let logger = Logger(label: "weir.dev")
        _ = try await SchemaMigration.migrator(databaseURL: databaseURL, logger: logger).migrate()
        let installation = try await DemoInstallation.ensure(
            databaseURL: databaseURL, pepper: Array(secrets.pepper.utf8), customerKey: secrets.customerKey,
            adminKey: secrets.adminKey,
            workerAddress: workerAddress, logger: logger)
        return installation.tenantID.description
    }
}
