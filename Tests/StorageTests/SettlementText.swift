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

extension SettlementText {
    /// A batch with claimed requests in it.
    static func writeClaimed(
        _ batch: [Settlement], gateway: GatewayID, again: Bool, on session: PostgresSession
    ) throws -> [RequestID: SettlementResult] {
        let statement = SettleClaimedBatch(gatewayID: gateway, batch: batch[...])
        let rows =
            again
            ? try session.pipeline(HoldGatewayLockAlone(gatewayID: gateway), statement).1
            : try session.pipeline(HoldGatewayLock(gatewayID: gateway), statement).1
        return Dictionary(rows.map { ($0.requestID, $0.isClaimLost ? .claimLost : .leaseLost) }) { first, _ in first }
    }

    /// What the database says to a claim.
    static func claim(_ claim: IdempotencyClaim, _ fingerprint: [UInt8], on session: PostgresSession) throws -> String?
    {
        try session.execute(
            ClaimKey(claim: claim, fingerprint: fingerprint, gatewayID: Seed.gateway, claimMilliseconds: 600_000)
        ).first?.outcome
    }

    static func renew(_ claims: [IdempotencyClaim], on session: PostgresSession) throws {
        _ = try session.execute(RenewClaims(claims: claims, claimMilliseconds: 600_000))
    }
}
