#if WEIR_UNMETERED_BASELINE
    import ArgumentParser
    import Foundation
    import Gateway

    /// Only in the build that admission is measured against.
    struct AdmissionCommand: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "measure-admission", abstract: "Measure admission alone, in this process.")

        @Option(help: "Requests in one run.")
        var count = 1_000_000

        @Option(help: "Runs of each part, the first of which is thrown away.")
        var rounds = 6

        @concurrent
        func run() async throws {
            for isRateLimited in [false, true] {
                for part in AdmissionLoop.Part.allCases {
                    var runs: [Double] = []
                    for _ in 0..<max(rounds, 2) {
                        runs.append(
                            try await AdmissionLoop(isRateLimited: isRateLimited).nanoseconds(part, count: count))
                    }
                    let kept = runs.dropFirst().sorted().map { String(format: "%.0f", $0) }
                    Terminal.say(
                        "\(isRateLimited ? "quotas and rate limits" : "quotas"), \(part.rawValue): ns per request, "
                            + "sorted: \(kept.joined(separator: " "))")
                }
            }
        }
    }

    /// What this build does not do must not be left out by accident.
    enum UnmeteredBaseline {
        static let variable = "WEIR_BENCHMARK_SERVES_WITHOUT_QUOTA"

        static func confirm(_ environment: [String: String]) throws {
            guard environment[variable] == "yes" else {
                throw CommandFailure(
                    "this build checks no keys and holds no quota. It is for Benchmarks/admission alone; build weir "
                        + "without WEIR_UNMETERED_BASELINE. (\(variable)=yes starts it nevertheless.)",
                    status: .configuration)
            }
            Terminal.complain("weir: THIS BUILD CHECKS NO KEYS AND HOLDS NO QUOTA. It is for benchmarks alone.")
        }
    }
#endif
