import ArgumentParser
import Foundation

/// Flags that every command with a configuration understands.
struct SettingsOptions: ParsableArguments {
    @Option(name: .customLong("config"), help: ArgumentHelp("Read NAME=value lines from this file.", valueName: "file"))
    var configurationPath: String?

    @Option(
        name: .customLong("set"), parsing: .singleValue,
        help: ArgumentHelp("Set a variable, as in --set DB_POOL_SIZE=40. Not for secrets.", valueName: "NAME=value"))
    var assignments: [String] = []

    func validate() throws {
        _ = try flags()
    }

    /// The variables that these flags set.
    func flags() throws -> [String: String] {
        var flags: [String: String] = [:]
        for assignment in assignments {
            guard let equals = assignment.firstIndex(of: "=") else {
                throw ValidationError("--set wants NAME=value")
            }
            let name = String(assignment[..<equals])
            guard let setting = SettingsCatalog.setting(named: name) else {
                let nearest = NearestName.of(name, among: SettingsCatalog.all.map(\.name))
                throw ValidationError("--set: there is no setting \(name); the nearest name is \(nearest)")
            }
            // Every user of the machine can read a command line.
            guard !setting.isSecret else {
                throw ValidationError(
                    "--set: \(name) is secret; set it in the environment or name its file with \(name)_FILE")
            }
            flags[name] = String(assignment[assignment.index(after: equals)...])
        }
        flags["WEIR_CONFIG"] = configurationPath ?? flags["WEIR_CONFIG"]
        return flags
    }

    /// Reads the configuration.
    /// - Parameters:
    ///   - own: variables that the command's own flags set; they win over `--set`.
    ///   - required: variables that the command cannot do without.
    func load(_ own: [String: String] = [:], required: Set<String> = []) throws -> Settings {
        let flags = try flags().merging(own) { _, own in own }
        let settings = try Settings.load(
            SettingsSource(flags: flags, environment: ProcessInfo.processInfo.environment), required: required)
        return settings
    }
}

extension Settings {
    /// The end of a command's help: the variables, one a line.
    static let helpText = SettingsCatalog.all.map { setting in
        let name = setting.defaultText.map { "\(setting.name) (\($0))" } ?? setting.name
        return "  \(name)\n      \(setting.meaning.filter { $0 != "`" })"
    }.joined(separator: "\n")
}
