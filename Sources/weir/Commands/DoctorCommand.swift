import ArgumentParser
import Foundation
import Logging

struct DoctorCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "doctor",
        abstract: "Check what Weir depends on, and say what to do.",
        discussion: """
            Reads the same configuration as `weir serve` and tries what it names: the database, its migrations and \
            roles, Redis, the ports, the admin API and the workers. It changes nothing. Exits with 1 if a check \
            fails, with 78 if the configuration cannot be read.

            Examples:
              weir doctor
              weir doctor --config /etc/weir.conf --json
            """)

    @OptionGroup var settingsOptions: SettingsOptions
    @Flag(help: "Print JSON.") var json = false

    func run() async throws {
        LoggingSystem.bootstrap { _ in SwiftLogNoOpLogHandler() }
        let settings = try settingsOptions.load()
        var findings = settings.warnings.map {
            DoctorFinding.warning("configuration", $0, "correct the name or remove the variable")
        }
        findings += await DoctorChecks(settings: settings).run()
        let report = DoctorReport(findings)
        if json {
            let encoder = JSONEncoder()
            encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
            Terminal.say(String(decoding: try encoder.encode(report), as: UTF8.self))
        } else {
            Terminal.say(report.text)
        }
        guard report.healthy else {
            throw CommandFailure("\(findings.count { $0.status == .failed }) of \(findings.count) checks failed")
        }
    }
}
