import Foundation

/// Where settings come from: flags over the environment over a file. Reading a file is a closure so that a test needs
/// none.
struct SettingsSource: Sendable {
    /// Values given as flags, by variable name.
    var flags: [String: String]
    var environment: [String: String]
    /// Reads a whole text file.
    var readFile: @Sendable (_ path: String) throws -> String

    init(
        flags: [String: String] = [:], environment: [String: String],
        readFile: @escaping @Sendable (_ path: String) throws -> String = Self.readSmallFile
    ) {
        self.flags = flags
        self.environment = environment
        self.readFile = readFile
    }

    /// Reads a file of at most 1 MiB. A directory, a device or a log that was named by mistake is an error, not a long
    /// wait.
    static func readSmallFile(_ path: String) throws -> String {
        let limit = 1_048_576
        let attributes = try FileManager.default.attributesOfItem(atPath: (path as NSString).resolvingSymlinksInPath)
        guard attributes[.type] as? FileAttributeType == .typeRegular else {
            throw UnreadableFile(reason: "is not a regular file")
        }
        guard let size = attributes[.size] as? Int, size <= limit else {
            throw UnreadableFile(reason: "is larger than \(limit) bytes")
        }
        guard let text = String(data: try Data(contentsOf: URL(fileURLWithPath: path)), encoding: .utf8) else {
            throw UnreadableFile(reason: "is not UTF-8 text")
        }
        return text
    }
}

struct UnreadableFile: Error, CustomStringConvertible {
    let reason: String
    var description: String { reason }
}

/// The text of one variable and where it was given.
struct GivenSetting: Sendable, Equatable {
    let text: String
    /// For a message: `the command line`, `the environment`, `/etc/weir.conf line 3`.
    let origin: String
    var isFromFile = false
}

/// A configuration file: `NAME=value` lines, `#` comments, an optional `export`, optional single or double quotes
/// around the value.
struct ConfigurationFile: Sendable {
    private(set) var values: [String: GivenSetting] = [:]
    private(set) var problems: [String] = []

    init(text: String, path: String) {
        for (index, rawLine) in text.split(separator: "\n", omittingEmptySubsequences: false).enumerated() {
            var line = rawLine.trimmingCharacters(in: .whitespacesAndNewlines)
            if line.isEmpty || line.hasPrefix("#") { continue }
            if line.hasPrefix("export ") { line = String(line.dropFirst(7)).trimmingCharacters(in: .whitespaces) }
            let place = "\(path) line \(index + 1)"
            guard let equals = line.firstIndex(of: "="), Self.isName(line[..<equals]) else {
                problems.append("\(place): expected NAME=value")
                continue
            }
            let name = String(line[..<equals])
            guard let value = Self.unquoted(line[line.index(after: equals)...].trimmingCharacters(in: .whitespaces))
            else {
                problems.append(
                    "\(place): \(name) begins with a quotation mark that is not closed at the end of the line")
                continue
            }
            if let earlier = values[name] {
                problems.append("\(place): \(name) stands in \(earlier.origin) already")
                continue
            }
            values[name] = GivenSetting(text: value, origin: place, isFromFile: true)
        }
    }

    private static func isName(_ text: Substring) -> Bool {
        !text.isEmpty
            && text.utf8.allSatisfy {
                $0 == UInt8(ascii: "_") || (0x41...0x5A).contains($0) || (0x30...0x39).contains($0)
            }
    }

    /// - Returns: `nil` if a quotation mark opens the value and none closes it.
    private static func unquoted(_ text: String) -> String? {
        guard let quote = text.first, quote == "\"" || quote == "'" else { return text }
        guard text.count >= 2, text.last == quote else { return nil }
        return String(text.dropFirst().dropLast())
    }
}
