import ArgumentParser

struct LedgerCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "ledger",
        abstract: "Hold the ledger against its seals; change the key that signs them.",
        discussion: """
            What a customer has exported is verified without a server: see `weir verify`.

            Examples:
              weir ledger verify --tenant 0195a3bf-30c4-7a52-bb10-6d7e8f901a2b
              weir ledger rotate-key
              weir ledger distrust-key 9f86d081884c7d65
            """,
        subcommands: [Verify.self, RotateKey.self, DistrustKey.self])

    struct Verify: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Follow a tenant's chain in the database and name the first bad entry.",
            discussion: "Ends with 1 where an entry is not as it was sealed.")
        @Option(help: ArgumentHelp("Whose ledger.", valueName: "id")) var tenant: String
        @OptionGroup var admin: AdminOptions

        struct Answer: Decodable {
            struct FirstBad: Decodable {
                let seq: Int64
                let entryId: String?
                let reason: String
            }

            let entries: Int64
            let heads: Int64
            let lastSeq: Int64
            let hasMore: Bool
            let verified: Bool
            let firstBad: FirstBad?
        }

        func run() async throws {
            let client = try admin.client()
            var (entries, heads, after) = (Int64(0), Int64(0), Int64(0))
            var hasMore = true
            while hasMore {
                let query: [(String, String?)] = [("tenant", tenant), ("after", String(after))]
                let text = try await client.send(AdminRequest(.get, ["ledger", "verify"], query: query))
                if admin.json { Terminal.say(text.text) }
                let answer = try text.decoded(Answer.self)
                entries += answer.entries
                heads += answer.heads
                after = answer.lastSeq
                hasMore = answer.hasMore
                if let bad = answer.firstBad {
                    let name = bad.entryId.map { " (\(SafeText.line($0)))" } ?? ""
                    throw CommandFailure("entry \(bad.seq)\(name): \(SafeText.line(bad.reason))")
                }
            }
            if !admin.json { Terminal.say("verified: \(entries) entries, \(heads) heads, to \(after)") }
        }
    }

    struct RotateKey: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "rotate-key",
            abstract: "Retire the key that signs heads and receipts, and make another one.",
            discussion:
                "Every gateway follows within a second. What the old key signed holds, unless --compromised says that somebody else may have it."
        )
        @Flag(help: "What the old key signed proves nothing any more; the heads are signed anew.")
        var compromised = false
        @OptionGroup var admin: AdminOptions

        struct Key: Decodable {
            let id: String
            let publicKey: String
        }

        func run() async throws {
            let call = try AdminRequest(
                .post, ["signing-keys", "rotate"], body: ["compromised": compromised])
            try await admin.send(call) { answer in
                let key = try answer.decoded(Key.self)
                return "\(SafeText.line(key.id)) \(SafeText.line(key.publicKey))"
            }
        }
    }
}

extension LedgerCommand {
    struct DistrustKey: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "distrust-key",
            abstract: "Say that somebody else may have a key, also one that was retired long ago.",
            discussion:
                "What it signed proves nothing any more, and heads are signed anew. The key in use is replaced, as by rotate-key --compromised."
        )
        @Argument(help: "The key's id.") var key: String
        @OptionGroup var admin: AdminOptions

        private struct Key: Decodable {
            let id: String
            let state: String
        }

        func run() async throws {
            try await admin.send(try AdminRequest(.post, ["signing-keys", key, "compromised"])) { answer in
                let key = try answer.decoded(Key.self)
                return "\(SafeText.line(key.id)) \(SafeText.line(key.state))"
            }
        }
    }
}

struct AuditCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "audit",
        abstract: "Export the audit log with its seals.",
        discussion: """
            Example:
              weir audit export --output audit.jsonl && weir verify audit audit.jsonl --keys keys.json
            """,
        subcommands: [Export.self])

    struct Export: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Write all sealed entries as JSON Lines.")
        @Option(help: ArgumentHelp("Where to; standard output where it is left out.", valueName: "file"))
        var output: String?
        @OptionGroup var admin: AdminOptions

        func run() async throws {
            let call = try AdminRequest(.get, ["audit", "export"])
            let file = try output.map { try OutputFile(path: $0) } ?? .standardOutput
            try await admin.client().stream(call) { try file.write($0) }
            try file.close()
        }
    }
}
