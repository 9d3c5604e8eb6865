import Domain
import Foundation
import Logging
import PostgresDriver
import Storage

/// The settlement writers of a process. A request's writer follows from its lane's identity, so that all the answers of one event loop are
/// released by one writer's commits.
struct SettlementWriters: Settler {
    private let writers: [SettlementWriter]

    init(settings: Settings, gatewayID: GatewayID, time: any TimeSource, logger: Logger) throws {
        var configuration = try DatabasePools.configuration(
            url: settings.databaseURL ?? "", name: "writer", statementMilliseconds: 2_000)
        configuration.applicationName = "weir-settlement"
        var options = SettlementWriter.Options()
        options.queueLimit = settings.settlementQueueLimit
        options.lingerLimitMicroseconds = UInt64(clamping: settings.settlementLingerMicroseconds)
        var faults = SettlementFaults()
        #if WEIR_FAULTS
            faults.plan = EnvironmentFaults(ProcessInfo.processInfo.environment)
        #endif
        writers = (0..<max(1, settings.settlementWriters)).map { _ in
            SettlementWriter(
                configuration: configuration, gatewayID: gatewayID, options: options, time: time, logger: logger,
                faults: faults)
        }
    }

    func start() async throws {
        for writer in writers { try writer.start() }
    }

    func shutdown(graceMilliseconds: Int64) async {
        for writer in writers { await writer.shutdown(graceMilliseconds: graceMilliseconds) }
    }

    var isAccepting: Bool { writers.allSatisfy(\.isAccepting) }

    func submit(
        _ settlement: Settlement, on lane: any CompletionLane,
        completion: @escaping @Sendable (SettlementResult) -> Void
    ) {
        let index = writers.count == 1 ? 0 : Int(UInt(bitPattern: ObjectIdentifier(lane)) >> 4 % UInt(writers.count))
        writers[index].submit(settlement, on: lane, completion: completion)
    }
}
