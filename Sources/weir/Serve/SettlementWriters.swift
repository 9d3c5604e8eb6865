import Domain
import Foundation
import Logging
import PostgresDriver
import Storage

/// The settlement writers of a process. A request's writer follows from its lane's identity, so that all the answers of one event loop are
/// released by one writer's commits.
struct SettlementWriters: Settler {
    private let writers: [SettlementWriter]

    /// - Parameter receipts: makes receipts of what is committed.
    init(
        settings: Settings, gatewayID: GatewayID, receipts: any ReceiptIssuer, time: any TimeSource, logger: Logger
    ) throws {
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
                receipts: receipts, faults: faults)
        }
    }

    func start() async throws {
        for writer in writers { try writer.start() }
    }

    /// All at once: one after the other, the last ones would find the process's own time to stop used up.
    func shutdown(graceMilliseconds: Int64) async {
        await withTaskGroup(of: Void.self) { group in
            for writer in writers {
                group.addTask { await writer.shutdown(graceMilliseconds: graceMilliseconds) }
            }
        }
    }

    var isAccepting: Bool { writers.allSatisfy(\.isAccepting) }

    func submit(
        _ settlement: Settlement, on lane: any CompletionLane,
        completion: @escaping @Sendable (SettlementResult) -> Void
    ) {
        let hash = UInt(bitPattern: ObjectIdentifier(lane).hashValue)
        let index = writers.count == 1 ? 0 : Int(hash % UInt(writers.count))
        writers[index].submit(settlement, on: lane, completion: completion)
    }
}
