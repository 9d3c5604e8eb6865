import ArgumentParser
import Foundation
import Logging
import PostgresDriver

struct MigrateCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "migrate",
        abstract: "Bring the database's schema up to date.",
        discussion: """
            Needs DATABASE_URL, with a role that may create tables and roles. Migrations are part of the executable.

            Examples:
              weir migrate status
              weir migrate up
            """,
        subcommands: [Up.self, Status.self])

    struct Up: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Apply what is not applied.",
            discussion: "Safe to start on several machines at once: one of them migrates, the others wait.")

        @OptionGroup var settingsOptions: SettingsOptions
        @Flag(help: "Print JSON.") var json = false

        func run() async throws {
            let migrator = try makeMigrator(settingsOptions)
            let applied: [PostgresMigration]
            do throws(PostgresError) {
                applied = try await migrator.migrate()
            } catch {
                throw failure(error)
            }
            if json {
                Terminal.say(try jsonText(["applied": applied.map(\.label)]))
            } else if applied.isEmpty {
                Terminal.say("The schema is up to date.")
            } else {
                for migration in applied { Terminal.say("applied \(migration.label)") }
            }
        }
    }

    struct Status: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "List the migrations and whether each is applied. Exits with 1 if one is not.")

        @OptionGroup var settingsOptions: SettingsOptions
        @Flag(help: "Print JSON.") var json = false

        func run() async throws {
            let migrator = try makeMigrator(settingsOptions)
            let lines: [PostgresMigrationStatus]
            do throws(PostgresError) {
                lines = try await migrator.status()
            } catch {
                throw failure(error)
            }
            if json {
                Terminal.say(
                    try jsonText(lines.map { Line(number: $0.number, name: $0.name, standing: "\($0.standing)") }))
            } else {
                for line in lines { Terminal.say("\(line.standing)  \(line.label)") }
            }
            if lines.contains(where: { $0.standing != .applied }) { throw ExitCode(ExitStatus.failed.rawValue) }
        }
    }

    private struct Line: Encodable {
        let number: Int
        let name: String
        let standing: String
    }
}

private func makeMigrator(_ options: SettingsOptions) throws -> PostgresMigrator {
    let settings = try options.load(required: ["DATABASE_URL"])
    return try SchemaMigration.migrator(databaseURL: settings.databaseURL ?? "", logger: Logger(label: "weir.migrate"))
}

private func failure(_ error: PostgresError) -> CommandFailure {
    CommandFailure("the database cannot be migrated: \(error)", status: error.isTransient ? .unavailable : .failed)
}

private func jsonText(_ value: some Encodable) throws -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    return String(decoding: try encoder.encode(value), as: UTF8.self)
}
