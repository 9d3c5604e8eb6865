internal import Crypto
public import Domain
public import Logging
internal import NIOCore
internal import Synchronization

/// Claims idempotency keys for requests, and keeps the claims of this gateway alive while their requests run.
///
/// A request without the header never comes here.
public final class ClaimKeeper: Sendable {
    private let store: any IdempotencyStore
    private let logger: Logger
    /// The claims of the requests under way; as many as those at most.
    private let open = Mutex<[RequestID: IdempotencyClaim]>([:])

    public init(store: any IdempotencyStore, logger: Logger) {
        self.store = store
        self.logger = logger
    }

    enum Admission {
        /// The request is to be served; its claim ends with ``end(_:)`` or ``giveUp(_:after:)``.
        case claimed(IdempotencyClaim)
        case answered(KeptAnswer)
    }

    /// - Parameters:
    ///   - fields: every value of the header in the request.
    ///   - operation: what the route does, the same for all its spellings.
    /// - Throws: `bad_request` for a header that is no key, `idempotency_in_progress`, `idempotency_mismatch`, or `metering_unavailable`.
    func claim(
        _ fields: [String], operation: String, body: JSONTape, binary: ByteBuffer? = nil, of tenantID: TenantID,
        for requestID: RequestID
    ) async throws(Refusal) -> Admission {
        guard fields.count == 1, let key = IdempotencyKey(field: fields[0]) else { throw .malformedKey }
        let claim = IdempotencyClaim(tenantID: tenantID, key: key, requestID: requestID)
        let outcome: ClaimOutcome
        do throws(StoreUnavailable) {
            outcome = try await store.claim(claim, fingerprint: Self.fingerprint(operation, body, binary: binary))
        } catch {
            throw .storeAway(cause: error.cause)
        }
        switch outcome {
        case .claimed:
            open.withLock { $0[requestID] = claim }
            return .claimed(claim)
        case .answered(let answer): return .answered(answer)
        case .inFlight: throw .keyInFlight
        case .otherRequest: throw .otherRequestOfKey
        }
    }

    /// The request was charged and its answer is kept, or whether it was is not known yet: the claim is not this gateway's to end.
    func end(_ claim: IdempotencyClaim) {
        _ = open.withLock { $0.removeValue(forKey: claim.requestID) }
    }

    /// The request came to nothing and was not charged: the next attempt runs. One that was charged has its refusal kept as its answer.
    /// Where the outcome is unknown the claim stays, because the charge may still come; then it runs out, and whoever is second at its row
    /// loses.
    func giveUp(_ claim: IdempotencyClaim, after refusal: Refusal) async {
        end(claim)
        guard !refusal.isOutcomeUnknown, refusal.charge == nil else { return }
        do throws(StoreUnavailable) {
            try await store.release(claim)
        } catch {
            logger.warning(
                "an idempotency key stays claimed until its claim runs out",
                metadata: ["request_id": "\(claim.requestID.publicText)", "cause": "\(error.cause)"])
        }
    }

    /// Renews the claims of requests under way; called several times in a claim's life.
    public func keep() async {
        let claims = open.withLock { Array($0.values) }
        guard !claims.isEmpty else { return }
        do throws(StoreUnavailable) {
            try await store.renew(claims)
        } catch {
            // A claim that runs out can be taken over; the settlement of the slower attempt is refused then.
            logger.warning("idempotency keys could not be kept", metadata: ["cause": "\(error.cause)"])
        }
    }

    /// SHA-256 over the operation and the canonical body, with a line feed between them, which neither of them has.
    /// - Parameter binary: what the body has behind its JSON; goes behind it here too.
    static func fingerprint(_ operation: String, _ body: JSONTape, binary: ByteBuffer? = nil) -> [UInt8] {
        var text = ByteBuffer()
        text.writeString(operation)
        text.writeStaticString("\n")
        body.writeCanonical(to: &text)
        if let binary { text.writeImmutableBuffer(binary) }
        return Array(SHA256.hash(data: Array(text.readableBytesView)))
    }
}

extension Refusal {
    fileprivate static var malformedKey: Refusal {
        let message = "must stand once and have 1 to 255 visible ASCII characters, bare or as a quoted string"
        return Refusal(
            .badRequest, "Idempotency-Key: \(message)",
            errors: [.init(location: "Idempotency-Key", message: message, fix: "Send one UUID, for example.")])
    }

    static var keyInFlight: Refusal {
        Refusal(
            .idempotencyInProgress,
            "A request with this Idempotency-Key is under way. Send yours again in a second to get its answer.",
            retryAfterSeconds: 1)
    }

    fileprivate static var otherRequestOfKey: Refusal {
        Refusal(
            .idempotencyMismatch,
            "This Idempotency-Key was used with another route or body. Repeat that request as it was, or take a new key.",
            errors: [
                .init(
                    location: "Idempotency-Key", message: "stands for another request",
                    fix: "Take a new key for a new request.")
            ])
    }
}
