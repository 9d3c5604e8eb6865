import Foundation
import Testing

@testable import weir

/// Holds the documents against the catalogue: a setting exists in all three places or in none.
@Suite("Documents of the settings")
struct SettingsDocumentTests {
    private struct Row: Equatable {
        let name: String
        let isSecret: Bool
        let defaultText: String?
    }

    private static func text(of path: String) throws -> String {
        let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent()
        return try String(contentsOf: root.appendingPathComponent(path), encoding: .utf8)
    }

    /// Rows of the form "name in backticks, type, default, meaning".
    private static func rows() throws -> [Row] {
        try text(of: "docs/configuration.md").split(separator: "\n").compactMap { line in
            let cells = line.split(separator: "|").map { $0.trimmingCharacters(in: .whitespaces) }
            guard cells.count == 4, cells[0].hasPrefix("`"), cells[0].hasSuffix("`") else { return nil }
            return Row(
                name: String(cells[0].dropFirst().dropLast()), isSecret: cells[1].contains("secret"),
                defaultText: cells[2] == "none" ? nil : cells[2])
        }
    }

    @Test("the table in docs/configuration.md has every setting once, with its default and whether it is secret")
    func table() throws {
        let rows = try Self.rows().sorted { $0.name < $1.name }
        let expected = SettingsCatalog.all.map {
            Row(name: $0.name, isSecret: $0.isSecret, defaultText: $0.defaultText)
        }
        .sorted { $0.name < $1.name }
        #expect(rows.map(\.name) == expected.map(\.name))
        for (row, setting) in zip(rows, expected) { #expect(row == setting) }
    }

    @Test("the document names the file variable of every secret")
    func fileVariables() throws {
        let text = try Self.text(of: "docs/configuration.md")
        for setting in SettingsCatalog.all {
            if let variable = setting.fileVariable { #expect(text.contains("`\(variable)`")) }
        }
    }

    @Test(".env.example has every setting once, and where it shows a default it is the default")
    func example() throws {
        var shown: [String: String] = [:]
        for line in try Self.text(of: ".env.example").split(separator: "\n") {
            let assignment = line.hasPrefix("#") ? line.dropFirst() : line
            guard let equals = assignment.firstIndex(of: "="),
                assignment[..<equals].allSatisfy({ $0.isUppercase || $0 == "_" })
            else { continue }
            let name = String(assignment[..<equals])
            #expect(shown[name] == nil, "\(name) stands there twice")
            shown[name] = String(assignment[assignment.index(after: equals)...])
        }
        #expect(shown.keys.sorted() == SettingsCatalog.all.map(\.name).sorted())
        for setting in SettingsCatalog.all {
            if let text = setting.defaultText { #expect(shown[setting.name] == text) }
        }
    }

    @Test(".env.example is itself a file that WEIR_CONFIG can name")
    func exampleIsReadable() throws {
        let text = try Self.text(of: ".env.example").split(separator: "\n", omittingEmptySubsequences: false).map {
            line in
            line.hasPrefix("#") && line.dropFirst().first?.isUppercase == true && line.contains("=")
                ? String(line.dropFirst()) : String(line)
        }.filter { !$0.hasPrefix("WEIR_CONFIG") }.joined(separator: "\n")
        let source = SettingsSource(environment: ["WEIR_CONFIG": "/x"]) { _ in text }
        #expect(try Settings.load(source).warnings.isEmpty)
    }
}
