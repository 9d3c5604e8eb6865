import Domain
import PostgresDriver

@testable import Storage

/// Settlements as the writer sends them, without the writer.
enum SettlementText {
    /// - Returns: the settlements that were refused because their lease is lost.
    static func write(_ batch: [Settlement], gateway: GatewayID, on session: PostgresSession) throws -> [RequestID] {
        try session.pipeline(HoldGatewayLock(gatewayID: gateway), SettleBatch(gatewayID: gateway, batch: batch[...])).1
    }
}

extension SettlementText {
    /// The same after an earlier sending whose fate is unknown.
    static func writeAgain(_ batch: [Settlement], gateway: GatewayID, on session: PostgresSession) throws -> [RequestID]
    {
        try session.pipeline(
            HoldGatewayLockAlone(gatewayID: gateway), SettleBatch(gatewayID: gateway, batch: batch[...])
        ).1
    }
}
