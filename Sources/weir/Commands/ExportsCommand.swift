import ArgumentParser
import AsyncHTTPClient
import Foundation
import Logging
import NIOCore

struct ExportsCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "exports",
        abstract: "Have usage written as files in parts, and fetch them.",
        discussion: """
            Examples:
              weir exports create --format csv --start 2026-03-01T00:00:00Z --end 2026-04-01T00:00:00Z
              weir exports create --format jsonl --incremental
              weir exports download exp_0195a3c8-7b1e-7c3d-9f20-3a5b8e6d1c42 --to march
            """,
        subcommands: [Create.self, List.self, Show.self, Cancel.self, Download.self])

    struct Item: Decodable, Sendable {
        let id: String
        let format: String
        let granularity: String
        let tenantId: String?
        let start: String?
        let end: String?
        let state: String
        let next: String?
        let parts: Int64
        let rows: Int64
        let bytes: Int64
        let error: String?
        let createdAt: String
    }

    struct Manifest: Decodable, Sendable {
        let parts: [Part]

        struct Part: Decodable, Sendable {
            let part: Int
            let bytes: Int64
            let sha256: String
        }
    }

    static func text(_ items: [Item]) -> String {
        var table = TextTable(["export", "format", "tenant", "state", "parts", "rows", "bytes", "created", "error"])
        for item in items {
            table.add([
                item.id, item.format, item.tenantId, item.state, "\(item.parts)", "\(item.rows)", "\(item.bytes)",
                item.createdAt, item.error,
            ])
        }
        return table.text
    }

    struct Create: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Have an export written.")
        @Option(help: "csv, jsonl, cloudevents or focus.") var format: String
        @Option(help: ArgumentHelp("Only this tenant's.", valueName: "id")) var tenant: String?
        @Option(help: "The first instant.") var start: String?
        @Option(help: "The first instant that no longer counts.") var end: String?
        @Option(help: "entries, hour, day or month.") var granularity: String?
        @Flag(help: "What was written since the last incremental export of the same tenant and format.")
        var incremental = false
        @Option(
            help: ArgumentHelp(
                "With --incremental: begin at the next of an export before, which you keep yourself.",
                valueName: "position"))
        var after: String?
        @OptionGroup var admin: AdminOptions

        struct Body: Encodable {
            let format: String
            let tenant: String?
            let start: String?
            let end: String?
            let granularity: String?
            let incremental: Bool
            let afterPosition: String?
        }

        func run() async throws {
            let body = Body(
                format: format, tenant: tenant, start: start, end: end, granularity: granularity,
                incremental: incremental, afterPosition: after)
            try await admin.send(AdminRequest(.post, ["exports"], body: body)) {
                ExportsCommand.text([try $0.decoded(Item.self)])
            }
        }
    }

    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "List exports, newest first.")
        @OptionGroup var page: PageOptions
        @OptionGroup var admin: AdminOptions

        func run() async throws {
            try await admin.send(AdminRequest(.get, ["exports"], query: page.query)) {
                let answer = try $0.decoded(AdminPage<Item>.self)
                page.mention(answer)
                return ExportsCommand.text(answer.data)
            }
        }
    }

    struct Show: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Show how an export is.")
        @Argument(help: "The export's id.") var id: String
        @OptionGroup var admin: AdminOptions

        func run() async throws {
            try await admin.send(AdminRequest(.get, ["exports", id])) {
                ExportsCommand.text([try $0.decoded(Item.self)])
            }
        }
    }

    struct Cancel: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Cancel an export that has not ended.")
        @Argument(help: "The export's id.") var id: String
        @OptionGroup var admin: AdminOptions

        func run() async throws {
            try await admin.send(AdminRequest(.post, ["exports", id, "cancel"])) {
                ExportsCommand.text([try $0.decoded(Item.self)])
            }
        }
    }

    struct Download: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Fetch the manifest and the parts of an export into a folder, and check their hashes.")
        @Argument(help: "The export's id.") var id: String
        @Option(help: "The folder; it is made.") var to: String
        @OptionGroup var admin: AdminOptions

        func run() async throws {
            let client = try admin.client()
            let manifest = try await client.send(AdminRequest(.get, ["exports", id, "manifest"]))
            let folder = URL(filePath: to)
            try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
            for part in try manifest.decoded(Manifest.self).parts {
                let file = folder.appending(path: String(format: "part-%05d", part.part))
                let written = try await client.download(
                    AdminRequest(.get, ["exports", id, "parts", "\(part.part)"]), to: file.path)
                guard written.bytes == part.bytes, written.sha256 == part.sha256 else {
                    throw CommandFailure("part \(part.part) did not arrive as the manifest says; fetch it again")
                }
            }
            // The last, as in the export itself: a folder without it is not whole.
            try manifest.body.write(to: folder.appending(path: "manifest.json"))
            Terminal.say(admin.json ? manifest.text : "\(folder.path)")
        }
    }
}

/// `weir usage export`: the stream, into a file or to standard output.
struct UsageExportCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "export", abstract: "Write usage as a file, of one tenant or of all.",
        discussion: "Ends with an error where anything is missing.")
    @Option(help: "csv, jsonl, cloudevents or focus.") var format = "csv"
    @Option(help: ArgumentHelp("Only this tenant's.", valueName: "id")) var tenant: String?
    @Option(help: "The first instant.") var start: String
    @Option(help: "The first instant that no longer counts.") var end: String
    @Option(help: "entries, hour, day or month.") var granularity: String?
    @Option(help: ArgumentHelp("The file.", valueName: "path")) var to: String
    @OptionGroup var admin: AdminOptions

    func run() async throws {
        let query: [(String, String?)] = [
            ("format", format), ("tenant", tenant), ("start", start), ("end", end), ("granularity", granularity),
        ]
        let written = try await admin.client().download(AdminRequest(.get, ["usage", "export"], query: query), to: to)
        Terminal.say(
            admin.json
                ? "{\"bytes\": \(written.bytes), \"sha256\": \"\(written.sha256)\"}" : "\(written.bytes) bytes in \(to)"
        )
    }
}
