import Logging
import PostgresDriver
import Storage

/// The migrator over the migrations of this executable.
enum SchemaMigration {
    static func migrator(databaseURL: String, logger: Logger) throws(PostgresError) -> PostgresMigrator {
        PostgresMigrator(
            configuration: try PostgresConfiguration(
                url: databaseURL, applicationName: "weir-migrate", connectTimeoutMilliseconds: 10_000,
                // A migration may take long and is silent while it does.
                answerTimeoutMilliseconds: 3_600_000),
            migrations: StorageMigrations.all, logger: logger)
    }
}
