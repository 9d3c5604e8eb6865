import ArgumentParser
import Domain
import Foundation
import LedgerProof

/// Verifies what a customer has, with the public keys and nothing else: no server, no database.
struct VerifyCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "verify",
        abstract: "Verify an exported ledger, a receipt, a proof or an exported audit log, offline.",
        discussion: """
            The keys are the document of GET /.well-known/weir-keys; keep one that you trust.
            Ends with 0 where everything holds, 1 where it does not, 2 where it could not be tried.

            Examples:
              weir verify ledger ledger.jsonl --keys keys.json --head head.json
              weir verify receipt AQHk... --keys keys.json
              weir verify proof proof.json --keys keys.json
            """,
        subcommands: [Ledger.self, ReceiptFile.self, Proof.self, Audit.self])

    struct Ledger: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Verify an exported ledger.")
        @Argument(help: "The export, JSON Lines; - for standard input.") var file: String
        @OptionGroup var options: VerifyOptions
        @Option(help: ArgumentHelp("A head that you have kept: the export must go at least so far.", valueName: "file"))
        var head: String?

        @Option(
            help: ArgumentHelp(
                "The export begins behind this entry: what is before it you hold already.", valueName: "seq"))
        var after: Int64 = 0

        func run() throws { try options.verify(file, as: LedgerEntry.self, after: after, head: head) }
    }

    struct Audit: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Verify an exported audit log.")
        @Argument(help: "The export, JSON Lines; - for standard input.") var file: String
        @OptionGroup var options: VerifyOptions
        @Option(help: ArgumentHelp("A head that you have kept: the export must go at least so far.", valueName: "file"))
        var head: String?

        func run() throws { try options.verify(file, as: AuditRow.self, after: 0, head: head) }
    }

    struct Proof: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Verify the proof of one entry.")
        @Argument(help: "The answer of GET /api/v1/ledger/proofs/{request}.") var file: String
        @OptionGroup var options: VerifyOptions

        func run() throws {
            let keys = try KeySet.file(options.keys)
            let bytes = try LineFile.whole(file)
            do throws(ProofFailure) {
                let proof = try ProofDocument(json: bytes)
                do throws(ProofFailure) {
                    try proof.verify(keys: keys)
                } catch {
                    throw ProofFailure(
                        "entry \(proof.sealed.sequence) (\(proof.sealed.entry.entryID)): \(error.reason)")
                }
                options.report(
                    "verified: entry \(proof.sealed.sequence) (\(proof.sealed.entry.entryID)), head at \(proof.head.sequence)",
                    ["seq": String(proof.sealed.sequence), "entry_id": proof.sealed.entry.entryID.description])
            } catch {
                throw options.failure(error.reason)
            }
        }
    }

    struct ReceiptFile: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "receipt",
            abstract: "Verify receipts: one, or a file with one in each line.",
            discussion: "A short receipt needs its entry, as it stands in an export.")
        @Argument(help: ArgumentHelp("A file, or the receipt itself.", valueName: "file or text")) var receipt: String
        @OptionGroup var options: VerifyOptions
        @Option(help: ArgumentHelp("Entries of the ledger, JSON Lines as exported.", valueName: "file"))
        var entry: String?

        func run() throws {
            let keys = try KeySet.file(options.keys)
            let entries = try entry.map { try Self.entries($0) }
            let texts = try receipts()
            for (index, text) in texts.enumerated() {
                do {
                    let receipt = try Receipt(text: text)
                    guard receipt.fields != nil || entries != nil else {
                        throw CommandFailure(
                            "the receipt is short: give its entry with --entry", status: .untried)
                    }
                    try receipt.verify(keys: keys, entry: try Self.entry(of: receipt, in: entries))
                } catch let error as ProofFailure {
                    throw options.failure(texts.count > 1 ? "line \(index + 1): \(error.reason)" : error.reason)
                }
            }
            options.report(
                "verified: \(texts.count) receipt\(texts.count == 1 ? "" : "s")", ["receipts": String(texts.count)])
        }

        private func receipts() throws -> [String] {
            guard FileManager.default.fileExists(atPath: receipt) else { return [receipt] }
            let text = String(decoding: try LineFile.whole(receipt), as: UTF8.self)
            let lines = text.split(whereSeparator: \.isNewline).map { $0.trimmingCharacters(in: .whitespaces) }
            guard !lines.isEmpty else { throw CommandFailure("\(receipt) is empty", status: .untried) }
            return lines
        }

        private static func entries(_ path: String) throws -> [RequestID: LedgerEntry] {
            var file = try LineFile(path: path)
            var entries: [RequestID: LedgerEntry] = [:]
            while let line = try file.next() {
                guard let sealed = try? LedgerEntry.sealed(try ProofJSON(line)) else { continue }
                entries[sealed.entry.entryID] = sealed.entry
            }
            guard !entries.isEmpty else { throw CommandFailure("\(path) has no entry of a ledger", status: .untried) }
            return entries
        }

        private static func entry(of receipt: Receipt, in entries: [RequestID: LedgerEntry]?) throws -> LedgerEntry? {
            guard let entries else { return nil }
            guard let fields = receipt.fields else {
                guard entries.count == 1 else {
                    throw CommandFailure(
                        "a short receipt does not say which entry is its: give that one alone", status: .untried)
                }
                return entries.values.first
            }
            guard let entry = entries[fields.entryID] else {
                throw ProofFailure("the entry \(fields.entryID) of the receipt is not among the entries")
            }
            return entry
        }
    }
}

/// What all of them need.
struct VerifyOptions: ParsableArguments {
    @Option(help: ArgumentHelp("The public keys, as GET /.well-known/weir-keys gives them.", valueName: "file"))
    var keys: String

    @Flag(help: "Print the result as JSON.")
    var json = false

    func verify<Entry: ExportedEntry>(
        _ path: String, as type: Entry.Type, after: Int64, head: String?
    ) throws {
        let keys = try KeySet.file(keys)
        let known = try head.map { try Self.head($0, keys) }
        var file = try LineFile(path: path)
        var verifier = ExportVerifier<Entry>(keys: keys, after: after, expecting: known)
        do throws(ExportFault) {
            while let line = try Self.line(of: &file) { try verifier.take(line) }
            let report = try verifier.finish()
            let range =
                report.entries > 0
                ? "\(report.after + 1) to \(report.lastSequence)" : "none behind \(report.after)"
            let caveat =
                known == nil ? "; not held against a known head: later entries may be missing (--head)" : ""
            self.report(
                "verified: \(report.entries) entries (\(range)), \(report.heads) heads, to \(report.lastSequence) \(report.lastHash.hexadecimal)\(caveat)",
                [
                    "after": String(report.after), "held_against_head": known != nil ? "true" : "false",
                    "entries": String(report.entries), "heads": String(report.heads),
                    "last_seq": String(report.lastSequence), "last_hash": report.lastHash.hexadecimal,
                ])
        } catch {
            throw failure(error.description, fault: error.fault)
        }
    }

    private static func line(of file: inout LineFile) throws(ExportFault) -> [UInt8]? {
        do throws(CommandFailure) {
            return try file.next()
        } catch {
            throw ExportFault(line: 0, fault: ChainFault(sequence: 0, entry: nil, reason: error.message))
        }
    }

    private static func head(_ path: String, _ keys: KeySet) throws -> SignedHead {
        let bytes = try LineFile.whole(path)
        do throws(ProofFailure) {
            let head = try SignedHead(json: bytes)
            try keys.check(head)
            return head
        } catch {
            throw CommandFailure("\(path) is no head that holds: \(error.reason)", status: .untried)
        }
    }

    func report(_ text: String, _ members: [String: String]) {
        Terminal.say(json ? Self.object(members.merging(["verified": "true"]) { first, _ in first }) : text)
    }

    func failure(_ reason: String, fault: ChainFault? = nil) -> CommandFailure {
        if json {
            var members = ["verified": "false", "reason": fault?.reason ?? reason]
            if let fault {
                members["seq"] = String(fault.sequence)
                members["entry_id"] = fault.entry
            }
            Terminal.say(Self.object(members))
        }
        return CommandFailure("not verified: \(SafeText.line(reason))")
    }

    /// Numbers and the words true and false as such, everything else as texts.
    private static func object(_ members: [String: String]) -> String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        let values = members.mapValues { text -> Value in
            if text == "true" || text == "false" { return .bool(text == "true") }
            if let number = Int64(text) { return .number(number) }
            return .text(text)
        }
        return (try? encoder.encode(values)).map { String(decoding: $0, as: UTF8.self) } ?? "{}"
    }

    private enum Value: Encodable {
        case bool(Bool)
        case number(Int64)
        case text(String)

        func encode(to encoder: any Encoder) throws {
            var container = encoder.singleValueContainer()
            switch self {
            case .bool(let value): try container.encode(value)
            case .number(let value): try container.encode(value)
            case .text(let value): try container.encode(value)
            }
        }
    }
}
