import ArgumentParser

struct ReconcileCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "reconcile",
        abstract: "Compare requests, ledger, usage, invoices, exports and deliveries with each other.",
        discussion: """
            Exit codes: 0 nothing differs, 1 something does, 2 it could not be compared.

            Examples:
              weir reconcile
              weir reconcile --tenant 0195a3bf-30c4-7a52-bb10-6d7e8f901a2b --start 2026-03-01T00:00:00Z --end 2026-04-01T00:00:00Z
            """)
    @Option(help: ArgumentHelp("Only this tenant's.", valueName: "id")) var tenant: String?
    @Option(help: "The first instant; by default 35 days ago.") var start: String?
    @Option(help: "The first instant that no longer counts; by default now.") var end: String?
    @OptionGroup var admin: AdminOptions

    private struct Body: Encodable {
        let tenant: String?
        let start: String?
        let end: String?
    }

    private struct Answer: Decodable {
        let start: String
        let end: String
        let differenceCount: Int64
        let differences: [Item]

        struct Item: Decodable {
            let kind: String
            let id: String
            let expected: String
            let found: String
        }
    }

    func run() async throws {
        let count: Int64
        do {
            let client = try admin.client()
            let answer = try await client.answer(
                to: AdminRequest(.post, ["reconcile"], body: Body(tenant: tenant, start: start, end: end)),
                withinSeconds: 86_400
            ).checked()
            let found = try answer.decoded(Answer.self)
            count = found.differenceCount
            Terminal.say(admin.json ? answer.text : Self.text(found))
        } catch let failure as CommandFailure {
            Terminal.complain("weir: \(failure.message)")
            throw ExitCode(2)
        } catch let failure as ConfigurationFailure {
            Terminal.complain("weir: \(failure)")
            throw ExitCode(2)
        }
        if count > 0 { throw ExitCode(1) }
    }

    private static func text(_ answer: Answer) -> String {
        let span = "\(SafeText.line(answer.start)) to \(SafeText.line(answer.end))"
        guard answer.differenceCount > 0 else { return "\(span): nothing differs" }
        var table = TextTable(["kind", "id", "expected", "found"])
        for item in answer.differences { table.add([item.kind, item.id, item.expected, item.found]) }
        return "\(span): \(answer.differenceCount) differences\n\(table.text)"
    }
}
