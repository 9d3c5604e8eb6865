import Domain
import PostgresDriver
import Storage
import Synchronization
import TestSupport

/// An event loop's stand-in: runs what it is given at once, and knows while it does.
final class CountingLane: CompletionLane {
    private let state = Mutex((wakes: 0, isRunning: false))

    var wakes: Int { state.withLock { $0.wakes } }
    /// True while a completion runs.
    var isRunning: Bool { state.withLock { $0.isRunning } }

    func run(_ work: @escaping @Sendable () -> Void) {
        state.withLock {
            $0.wakes += 1
            $0.isRunning = true
        }
        work()
        state.withLock { $0.isRunning = false }
    }
}

/// What became of settlements, by request. A completion that comes twice, or not on its lane, is counted apart.
final class Outcomes: Sendable {
    private let state = Mutex((results: [RequestID: SettlementResult](), repeated: 0, elsewhere: 0))

    var results: [RequestID: SettlementResult] { state.withLock { $0.results } }
    var repeated: Int { state.withLock { $0.repeated } }
    var elsewhere: Int { state.withLock { $0.elsewhere } }

    func count(_ result: SettlementResult) -> Int { results.values.count { $0 == result } }

    func submit(_ settlement: Settlement, to writer: SettlementWriter, on lane: CountingLane) {
        let id = settlement.requestID
        writer.submit(settlement, on: lane) { result in
            self.state.withLock { state in
                if state.results.updateValue(result, forKey: id) != nil { state.repeated += 1 }
                if !lane.isRunning { state.elsewhere += 1 }
            }
        }
    }
}

extension StorageHarness {
    func makeWriter(
        gateway: GatewayID = Seed.gateway, configure: (inout PostgresConfiguration) -> Void = { _ in },
        options: (inout SettlementWriter.Options) -> Void = { _ in }
    ) throws -> SettlementWriter {
        var configuration = try configuration("weir_writer", applicationName: "weir-settlement")
        configure(&configuration)
        var chosen = SettlementWriter.Options()
        // Nobody runs out of patience unless the test is about that.
        chosen.waitMilliseconds = 120_000
        options(&chosen)
        return SettlementWriter(
            configuration: configuration, gatewayID: gateway, options: chosen, time: MachineTime(), logger: Self.logger)
    }

    /// Runs a body with a writer that is connected, and shuts it down.
    func withWriter<T: Sendable>(
        gateway: GatewayID = Seed.gateway, configure: (inout PostgresConfiguration) -> Void = { _ in },
        options: (inout SettlementWriter.Options) -> Void = { _ in }, _ body: (SettlementWriter) async throws -> T
    ) async throws -> T {
        let writer = try makeWriter(gateway: gateway, configure: configure, options: options)
        try writer.start()
        let result: Result<T, any Error>
        do {
            try await eventually("the writer is connected") { writer.isAccepting }
            result = .success(try await body(writer))
        } catch {
            result = .failure(error)
        }
        await writer.shutdown(graceMilliseconds: 20_000)
        return try result.get()
    }

    /// The identifiers in a table, each once for each row.
    func identifiers(_ column: String, in table: String) async throws -> [RequestID] {
        try await ask("SELECT \(column) FROM \(table)").compactMap { RequestID($0) }
    }
}
