import Foundation

/// Merges the sources, checks everything, and keeps every complaint: a person who has three mistakes reads three
/// messages, once.
struct SettingsReader {
    private(set) var values: [String: SettingValue] = [:]
    private(set) var problems: [String] = []
    private(set) var warnings: [String] = []
    private let source: SettingsSource
    private var given: [String: GivenSetting] = [:]

    init(_ source: SettingsSource, required: Set<String>) {
        self.source = source
        merge()
        readSecretFiles()
        reportUnknownNames()
        for setting in SettingsCatalog.all { read(setting) }
        for setting in SettingsCatalog.all where required.contains(setting.name) && given[setting.name] == nil {
            let file = setting.fileVariable.map { " (or \($0))" } ?? ""
            problems.append("\(setting.name)\(file) is not set: \(setting.meaning)")
        }
    }

    /// An empty text counts as absent: Compose files and unit files hand on empty variables for what their author left
    /// out.
    private mutating func merge() {
        let environment = source.environment.filter { !$0.value.isEmpty }
        let path = source.flags["WEIR_CONFIG"] ?? environment["WEIR_CONFIG"]
        if let path {
            do {
                let file = ConfigurationFile(text: try source.readFile(path), path: path)
                given = file.values.filter { !$0.value.text.isEmpty }
                problems += file.problems
                if given["WEIR_CONFIG"] != nil {
                    problems.append("\(path): WEIR_CONFIG cannot stand in the file that it names")
                }
            } catch {
                problems.append("WEIR_CONFIG names \(path), which cannot be read: \(Self.reason(error))")
            }
        }
        for (name, text) in environment where Self.isOurs(name) {
            given[name] = GivenSetting(text: text, origin: "the environment")
        }
        for (name, text) in source.flags { given[name] = GivenSetting(text: text, origin: "the command line") }
    }

    private static func isOurs(_ name: String) -> Bool {
        if name.hasPrefix("WEIR_") { return true }
        let plain = name.hasSuffix("_FILE") ? String(name.dropLast(5)) : name
        return SettingsCatalog.setting(named: plain) != nil
    }

    private mutating func readSecretFiles() {
        for setting in SettingsCatalog.all {
            guard let variable = setting.fileVariable, let file = given.removeValue(forKey: variable) else { continue }
            if let direct = given[setting.name] {
                problems.append(
                    "\(setting.name) (from \(direct.origin)) and \(variable) (from \(file.origin)) are both given: keep one of them"
                )
                continue
            }
            do {
                let text = try source.readFile(file.text).trimmingCharacters(in: .whitespacesAndNewlines)
                if text.isEmpty {
                    problems.append("\(variable) names \(file.text), which is empty")
                } else {
                    given[setting.name] = GivenSetting(text: text, origin: "the file that \(variable) names")
                }
            } catch {
                problems.append("\(variable) names \(file.text), which cannot be read: \(Self.reason(error))")
            }
        }
    }

    /// An unknown name in the file stops the start: the file is ours alone. In the environment it may be somebody
    /// else's, and older and newer versions share it, so there it is a warning.
    private mutating func reportUnknownNames() {
        let known = SettingsCatalog.all.flatMap { [$0.name] + ($0.fileVariable.map { [$0] } ?? []) }
        for name in given.keys.sorted() where SettingsCatalog.setting(named: name) == nil {
            guard let entry = given.removeValue(forKey: name), !SettingsCatalog.isForTests(name) else { continue }
            let nearest = NearestName.of(name, among: known)
            if entry.isFromFile {
                problems.append("\(entry.origin): \(name) is not a setting of Weir; the nearest name is \(nearest)")
            } else {
                warnings.append(
                    "\(name) (from \(entry.origin)) is not a setting of Weir and is ignored; the nearest name is \(nearest)"
                )
            }
        }
    }

    private mutating func read(_ setting: Setting) {
        let entry = given[setting.name]
        guard let text = entry?.text ?? setting.defaultText else { return }
        do throws(BadSetting) {
            values[setting.name] = try setting.kind.read(text.trimmingCharacters(in: .whitespacesAndNewlines))
        } catch {
            // In front of an @ a URL can carry a password, also where none belongs.
            let shown =
                setting.isSecret || text.contains("@")
                ? "is not usable (its value is secret and not shown)" : "is \(Self.quoted(text))"
            problems.append(
                "\(setting.name) \(shown), from \(entry?.origin ?? "its default"): expected \(error.expected)")
        }
    }

    /// Adds a complaint that concerns several settings.
    mutating func complain(_ problem: String) { problems.append(problem) }

    func isGiven(_ name: String) -> Bool { given[name] != nil }

    /// At most 80 characters of a value, so that a whole file in the wrong variable does not fill the screen.
    private static func quoted(_ text: String) -> String {
        let clean = String(text.unicodeScalars.map { $0.value < 0x20 || $0.value == 0x7F ? " " : Character($0) })
        return clean.count <= 80 ? "\"\(clean)\"" : "\"\(clean.prefix(80))…\""
    }

    private static func reason(_ error: any Error) -> String {
        if let error = error as? UnreadableFile { return error.reason }
        let code = (error as NSError).userInfo[NSUnderlyingErrorKey] as? NSError
        if let code, code.domain == NSPOSIXErrorDomain { return String(cString: strerror(Int32(code.code))) }
        return "it does not exist or this user may not read it"
    }
}

/// Finds what a person may have meant.
enum NearestName {
    /// The name with the least edit distance; the first of equals.
    static func of(_ name: String, among names: [String]) -> String {
        names.min { distance($0, name) < distance($1, name) } ?? ""
    }

    /// Levenshtein's distance over bytes: insertions, deletions and replacements.
    static func distance(_ left: String, _ right: String) -> Int {
        let right = Array(right.utf8)
        var row = Array(0...right.count)
        for (leftIndex, leftByte) in left.utf8.enumerated() {
            var diagonal = row[0]
            row[0] = leftIndex + 1
            for (rightIndex, rightByte) in right.enumerated() {
                let replaced = diagonal + (leftByte == rightByte ? 0 : 1)
                diagonal = row[rightIndex + 1]
                row[rightIndex + 1] = min(replaced, row[rightIndex] + 1, diagonal + 1)
            }
        }
        return row[right.count]
    }
}
