import ArgumentParser
import Logging

/// Flags of every command that speaks to the admin API.
struct AdminOptions: ParsableArguments {
    @Option(name: .customLong("admin-url"), help: "WEIR_ADMIN_URL: where the admin API is.")
    var adminURL: String?

    @OptionGroup var settingsOptions: SettingsOptions

    @Flag(help: "Print the answer as JSON, as it came.")
    var json = false

    /// For a command that sends more than one call. Call once.
    func client() throws -> AdminClient {
        LoggingSystem.bootstrap { _ in SwiftLogNoOpLogHandler() }
        let own = adminURL.map { ["WEIR_ADMIN_URL": $0] } ?? [:]
        return try AdminClient(try settingsOptions.load(own, required: ["WEIR_ADMIN_KEY"]))
    }

    /// Sends a call and prints the answer: as it came, or as `show` writes it for a person.
    func send(_ call: AdminRequest, show: (AdminAnswer) throws -> String) async throws {
        let answer = try await client().send(call)
        let text = json ? answer.text : try show(answer)
        if !text.isEmpty { Terminal.say(text) }
    }
}

/// Flags of a list.
struct PageOptions: ParsableArguments {
    @Option(help: "The most items, 1 to 100.")
    var limit: Int?

    @Option(help: ArgumentHelp("Begin behind this item, the last of the page before.", valueName: "id"))
    var after: String?

    func validate() throws {
        if let limit, !(1...100).contains(limit) { throw ValidationError("--limit is from 1 to 100") }
    }

    var query: [(String, String?)] { [("limit", limit.map(String.init)), ("after", after)] }

    /// Says on standard error how to get the next page, so that standard output stays a table.
    func mention<Item>(_ page: AdminPage<Item>) {
        if page.hasMore, let last = page.lastId { Terminal.complain("There is more: --after \(SafeText.line(last))") }
    }
}
