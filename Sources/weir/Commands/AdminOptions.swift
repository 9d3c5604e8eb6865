import ArgumentParser
import Foundation
import Logging

/// Flags of every command that speaks to the admin API.
struct AdminOptions: ParsableArguments {
    @Option(name: .customLong("admin-url"), help: "WEIR_ADMIN_URL: where the admin API is.")
    var adminURL: String?

    @OptionGroup var settingsOptions: SettingsOptions

    @Flag(help: "Print the answer as JSON, as it came.")
    var json = false

    /// How long the answer may take of what goes through all tenants: as long as it does.
    static let wholeInstallationSeconds: Int64 = 86_400

    /// The client that these flags and the configuration name.
    func client() throws -> AdminClient {
        LoggingSystem.bootstrap { _ in SwiftLogNoOpLogHandler() }
        let own = adminURL.map { ["WEIR_ADMIN_URL": $0] } ?? [:]
        return try AdminClient(settingsOptions.load(own, required: ["WEIR_ADMIN_KEY"]))
    }

    /// Sends a call and prints the answer: as it came, or as `show` writes it for a person.
    func send(
        _ call: AdminRequest, withinSeconds seconds: Int64 = 30, show: (AdminAnswer) throws -> String
    ) async throws {
        let answer = try await client().send(call, withinSeconds: seconds)
        let text = json ? answer.text : try show(answer)
        if !text.isEmpty { Terminal.say(text) }
    }
}

extension AdminOptions {
    /// Sends a call and writes the answer's body to a file as it came.
    func send(_ call: AdminRequest, raw path: String) async throws {
        LoggingSystem.bootstrap { _ in SwiftLogNoOpLogHandler() }
        let own = adminURL.map { ["WEIR_ADMIN_URL": $0] } ?? [:]
        let settings = try settingsOptions.load(own, required: ["WEIR_ADMIN_KEY"])
        let answer = try await AdminClient(settings).send(call)
        do {
            try answer.body.write(to: URL(filePath: path))
        } catch {
            throw CommandFailure("cannot write \(SafeText.line(path))")
        }
        let report = json ? "{\"bytes\":\(answer.body.count)}" : "\(answer.body.count) bytes"
        Terminal.say(report)
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
