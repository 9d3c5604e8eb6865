import ArgumentParser
import Foundation

extension AdminPrice {
    /// Short, for a table.
    var text: String { "\(meter):\(model)=\(unitPrice ?? priceModel ?? "")" }
}

extension TiersCommand {
    static func table(_ versions: [AdminTierVersion]) -> String {
        var table = TextTable(["tier", "version", "state", "currency", "base fee", "prices", "effective at"])
        for version in versions {
            table.add([
                version.tier, String(version.number), version.state, version.currency, String(version.baseFeeMicros),
                version.prices.map(\.text).joined(separator: " "), version.effectiveAt ?? "",
            ])
        }
        return table.text
    }

    struct Show: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "List the versions of a tier, newest first; --json shows all of each.")
        @Argument(help: "The tier's code.") var code: String
        @OptionGroup var page: PageOptions
        @OptionGroup var admin: AdminOptions

        func run() async throws {
            try await admin.send(AdminRequest(.get, ["tiers", code, "versions"], query: page.query)) { answer in
                let list = try answer.decoded(AdminPage<AdminTierVersion>.self)
                page.mention(list)
                return TiersCommand.table(list.data)
            }
        }
    }

    struct Draft: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Make a draft of a tier's next version, or change or delete one.",
            discussion: "The file holds a version as docs/api/tiers.md describes it. Nobody is billed by a draft.")
        @Argument(help: "The tier's code.") var code: String
        @Option(help: ArgumentHelp("A JSON file with the version, or with what of a draft changes.", valueName: "path"))
        var file: String?
        @Option(name: .customLong("version"), help: "The draft that is changed; a new one where it is left out.")
        var number: Int32?
        @Flag(help: "Delete the draft that --version names.") var delete = false
        @OptionGroup var admin: AdminOptions

        func validate() throws {
            if delete, number == nil || file != nil { throw ValidationError("--delete needs --version and no --file") }
            if !delete, file == nil { throw ValidationError("--file is missing") }
        }

        func run() async throws {
            if delete, let number {
                return try await admin.send(AdminRequest(.delete, ["tiers", code, "versions", String(number)])) { _ in
                    "deleted version \(number) of \(SafeText.line(code))"
                }
            }
            guard let file, let json = FileManager.default.contents(atPath: file) else {
                throw CommandFailure("cannot read \(file ?? "")")
            }
            let body = AdminRequest.Document(json: json)
            let call =
                if let number {
                    try AdminRequest(.patch, ["tiers", code, "versions", String(number)], body: body)
                } else { try AdminRequest(.post, ["tiers", code, "versions"], body: body) }
            try await admin.send(call) { TiersCommand.table([try $0.decoded(AdminTierVersion.self)]) }
        }
    }

    struct Publish: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Publish a draft: who subscribes from its time on is given it, and it never changes again.")
        @Argument(help: "The tier's code.") var code: String
        @Argument(help: "The version.") var version: Int32
        @Option(
            help: ArgumentHelp(
                "The digest of a replay of this draft; needed where a price moves far.", valueName: "digest"))
        var confirm: String?
        @OptionGroup var admin: AdminOptions

        struct Body: Encodable {
            let confirm: String?
        }

        func run() async throws {
            let path = ["tiers", code, "versions", String(version), "publish"]
            try await admin.send(AdminRequest(.post, path, body: Body(confirm: confirm))) {
                TiersCommand.table([try $0.decoded(AdminTierVersion.self)])
            }
        }
    }

    struct Retire: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Take a published version out of sale. Who has it keeps it.")
        @Argument(help: "The tier's code.") var code: String
        @Argument(help: "The version.") var version: Int32
        @OptionGroup var admin: AdminOptions

        func run() async throws {
            try await admin.send(AdminRequest(.post, ["tiers", code, "versions", String(version), "retire"])) {
                TiersCommand.table([try $0.decoded(AdminTierVersion.self)])
            }
        }
    }
}
