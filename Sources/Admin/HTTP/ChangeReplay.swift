internal import Domain
internal import HTTPListener
internal import HTTPTypes
internal import Hummingbird
internal import HummingbirdCore
internal import LedgerProof
internal import NIOCore

/// Makes a change of money once, however often its maker sends it: under the header `Idempotency-Key` the first answer is given again.
///
/// The claim goes with the actor into the change's own transaction, so it is taken with the change or not at all: what was refused, or failed
/// before its commit, can be sent again. The answer is kept behind the commit. Where the process ended in between, the change is named
/// instead of repeated.
struct ChangeReplay: Sendable {
    let answers: (any ChangeAnswers)?

    func answer(_ call: AdminCall, _ handle: AdminRouter.Handler) async throws -> Response {
        let fields = call.request.headers[values: .idempotencyKey]
        guard let answers, !fields.isEmpty else { return try await handle(call) }
        guard fields.count == 1, let key = IdempotencyKey(field: fields[0]) else {
            throw Refusal(
                .badRequest,
                "The header Idempotency-Key must be there once, with 1 to 255 visible ASCII characters, best a UUID.")
        }
        var call = call
        let body = try await Self.body(&call)
        let claim = ChangeClaim(
            actor: call.actor, key: key, fingerprint: Self.fingerprint(call.request, body))
        call.claim = claim
        if let known = try await answers.change(of: claim) { return try Self.replay(known, claim) }
        do {
            let response = try await handle(call)
            return try await keep(response, of: claim, in: answers)
        } catch let refusal as Refusal where refusal.code == .idempotencyInProgress {
            // Somebody sent the same at the same moment and was first.
            guard let known = try await answers.change(of: claim) else { throw refusal }
            return try Self.replay(known, claim)
        } catch AdministrationFailure.refused(let refusal) where refusal.code == .idempotencyInProgress {
            guard let known = try await answers.change(of: claim) else { throw refusal }
            return try Self.replay(known, claim)
        }
    }

    // MARK: Parts

    private static func body(_ call: inout AdminCall) async throws -> ByteBuffer {
        do {
            return try await call.request.collectBody(upTo: call.maximumBodyBytes)
        } catch is NIOTooManyBytesError {
            throw Refusal.tooLarge(call.maximumBodyBytes)
        } catch {
            throw Refusal(.badRequest, "The body did not arrive whole.")
        }
    }

    private static func fingerprint(_ request: Request, _ body: ByteBuffer) -> [UInt8] {
        ProofHash(
            sha256: Array("\(request.method.rawValue) \(request.uri.path)\n".utf8) + Array(body.readableBytesView)
        ).bytes
    }

    private static func replay(_ known: KnownChange, _ claim: ChangeClaim) throws(Refusal) -> Response {
        guard known.fingerprint == claim.fingerprint else {
            throw Refusal(
                .idempotencyMismatch,
                "This key was used with another request. Take a new key for every change that is to be made.")
        }
        guard let answer = known.answer else {
            guard known.isAnswerLost else {
                throw Refusal(
                    .idempotencyInProgress,
                    "The first request with this key has not been answered yet. Send it again later.",
                    retryAfterSeconds: 1)
            }
            throw Refusal(
                .conflict,
                "The change was made (\(known.subject ?? "nothing had to change")), and its answer was lost. Look at it; it is not made again."
            )
        }
        return Response(
            status: HTTPResponse.Status(code: Int(answer.status)),
            headers: [.contentType: "application/json", .idempotentReplayed: "true"],
            body: ResponseBody(byteBuffer: ByteBuffer(bytes: answer.body)))
    }

    private func keep(
        _ response: Response, of claim: ChangeClaim, in answers: any ChangeAnswers
    ) async throws -> Response {
        let gathered = GatheredBody()
        try await response.body.write(gathered)
        let bytes = gathered.bytes
        // The change is made whether its answer is kept or not; without it a repetition is told what was changed.
        try? await answers.keep(
            ChangeAnswer(status: Int16(clamping: response.status.code), body: bytes), of: claim)
        return Response(
            status: response.status, headers: response.headers, body: ResponseBody(byteBuffer: ByteBuffer(bytes: bytes))
        )
    }
}

/// Takes a body that is in memory already.
private final class GatheredBody: ResponseBodyWriter {
    private(set) var bytes: [UInt8] = []

    func write(_ buffer: ByteBuffer) async throws { bytes += buffer.readableBytesView }

    consuming func finish(_ trailingHeaders: HTTPFields?) async throws {}
}

extension HTTPField.Name {
    fileprivate static let idempotencyKey = HTTPField.Name("Idempotency-Key") ?? .accept
    fileprivate static let idempotentReplayed = HTTPField.Name("Idempotent-Replayed") ?? .accept
}
