import ArgumentParser
import Glibc

/// The one executable: the server, its worker, the development set-up and the command line over the admin API.
@main
struct Weir: AsyncParsableCommand {
    static let version = "0.1.0"

    static let configuration = CommandConfiguration(
        commandName: "weir",
        abstract: "A metered gateway in front of inference workers.",
        discussion: """
            Start with `weir dev`: it brings up everything that a prediction needs in a folder of its own and prints \
            what to try.

            Exit codes: 0 done, 1 refused or failed, 64 wrong usage (2 of `weir verify`), 69 a service cannot be reached, 78 wrong \
            configuration.
            """,
        version: version,
        subcommands: [RateCommand.self] + benchmarks,
        groupedSubcommands: [
            CommandGroup(
                name: "Running",
                subcommands: [
                    DevCommand.self, ServeCommand.self, WorkerCommand.self, MigrateCommand.self, DoctorCommand.self,
                ]),
            CommandGroup(
                name: "Administration",
                subcommands: [
                    TenantsCommand.self, KeysCommand.self, TiersCommand.self, QuotasCommand.self, RoutesCommand.self,
                    ReplicasCommand.self, ModelsCommand.self, CacheCommand.self, QueueCommand.self, WorkersCommand.self,
                    UsageCommand.self, ReportsCommand.self, ExportsCommand.self, ReconcileCommand.self,
                    StripeCommand.self, SubscriptionsCommand.self, InvoicesCommand.self, CreditsCommand.self,
                    LedgerCommand.self, AuditCommand.self,
                ]),
            CommandGroup(name: "Proof", subcommands: [VerifyCommand.self]),
        ])

    #if WEIR_UNMETERED_BASELINE
        private static let benchmarks: [any ParsableCommand.Type] = [AdmissionCommand.self]
    #else
        private static let benchmarks: [any ParsableCommand.Type] = []
    #endif

    static func main() async {
        let status = await execute(Array(CommandLine.arguments.dropFirst()))
        LogSink.standardError.flush()
        Glibc.exit(status)
    }

    /// Parses and runs; reports what went wrong on standard error.
    ///
    /// Off the main actor, on which `main` starts: a server whose every call began there would cross threads for each.
    @concurrent
    private static func execute(_ arguments: [String]) async -> Int32 {
        do {
            var command = try parseAsRoot(arguments)
            if var asynchronous = command as? any AsyncParsableCommand {
                try await asynchronous.run()
            } else {
                try command.run()
            }
            return ExitStatus.done.rawValue
        } catch let failure as CommandFailure {
            Terminal.complain("weir: \(failure.message)")
            return failure.status.rawValue
        } catch let failure as ConfigurationFailure {
            Terminal.complain("weir: \(failure)")
            return ExitStatus.configuration.rawValue
        } catch {
            var status = exitCode(for: error).rawValue
            // Scripts tell "not true" from "not tried" by it.
            if arguments.first == "verify", status == ExitStatus.usage.rawValue { status = ExitStatus.untried.rawValue }
            let text = fullMessage(for: error)
            if !text.isEmpty {
                if status == 0 { Terminal.say(text) } else { Terminal.complain(text) }
            }
            return status
        }
    }
}
