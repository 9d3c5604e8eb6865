import ArgumentParser

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
            _ = try settingsOptions.load(required: ["DATABASE_URL"])
            throw CommandFailure("this build has no migrations yet")
        }
    }

    struct Status: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "List the migrations and whether each is applied. Exits with 1 if one is not.")

        @OptionGroup var settingsOptions: SettingsOptions
        @Flag(help: "Print JSON.") var json = false

        func run() async throws {
            _ = try settingsOptions.load(required: ["DATABASE_URL"])
            throw CommandFailure("this build has no migrations yet")
        }
    }
}
