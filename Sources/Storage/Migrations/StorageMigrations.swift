public import PostgresDriver

/// The schema's history as the migrator takes it.
public enum StorageMigrations {
    /// In order; number and name are those of the files in `migrations/`.
    public static var all: [PostgresMigration] {
        EmbeddedMigrations.all.map { file in
            PostgresMigration(
                number: Int(file.name.prefix(4)) ?? 0, name: String(file.name.dropFirst(5)), sql: file.sql)
        }
    }
}
