internal import Domain
internal import HTTPListener
internal import Hummingbird
internal import LedgerProof
internal import NIOCore

/// `/admin/v1/ledger`, `/admin/v1/signing-keys` and the export of the audit log: what proves the books.
struct LedgerEndpoint: Sendable {
    let proofs: (any ProofAdministration)?

    private static let pageLimit = 1_000
    private static let checkLimit = 1_000_000

    private var present: any ProofAdministration {
        get throws(Refusal) {
            guard let proofs else { throw Refusal(.notFound, "This server has no sealed ledger.") }
            return proofs
        }
    }

    func rotate(_ call: AdminCall) async throws -> Response {
        let input = try await RequestBodyReader.object(call, fields: ["compromised"])
        let isCompromised = input.optional("compromised", .boolean) ?? false
        try input.problems.check()
        let key = try await present.rotateSigningKey(isCompromised: isCompromised, by: call.actor)
        return try .json(SigningKeyAnswer(key), status: .created)
    }

    func distrust(_ call: AdminCall) async throws -> Response {
        guard let id = call.context.parameters.get("id").flatMap({ SigningKeyID($0) }) else {
            throw Refusal(.notFound, "There is no such signing key. GET /.well-known/weir-keys lists them.")
        }
        return try .json(SigningKeyAnswer(try await present.distrustSigningKey(id, by: call.actor)))
    }

    /// Follows the chain in the tables, entry by entry, and names the first one that is not as it was sealed.
    func verify(_ call: AdminCall) async throws -> Response {
        let tenantID = try call.query.value("tenant", "a tenant's id", fix: "Take it from GET /admin/v1/tenants.") {
            TenantID($0)
        }
        guard let tenantID else {
            throw Refusal.invalid("tenant", "is missing", fix: "Say whose ledger is meant: ?tenant=<id>.")
        }
        let after = Int64(try call.query.integer("after", in: 0...Int(Int64.max), default: 0))
        let limit = Int64(try call.query.integer("limit", in: 1...Self.checkLimit, default: 100_000))
        let proofs = try present
        let head = try await proofs.ledgerHead(of: tenantID)
        let end = min(head?.sequence ?? 0, after.addingReportingOverflow(limit).partialValue)
        let start = after > 0 ? try await proofs.ledgerHash(of: tenantID, at: after) : nil
        guard after == 0 || start != nil else {
            throw Refusal.invalid(
                "after", "is no sealed entry", fix: "Send the last_seq of an answer, or leave it out.")
        }
        let keys = KeySet(try await proofs.signingKeys())
        var verifier = ChainVerifier<LedgerEntry>(.ledger(tenantID), after: after, hash: start, keys: keys)
        var fault: ChainFault?
        do throws(ChainFault) {
            try await Self.follow(&verifier, to: end, of: tenantID, proofs)
        } catch {
            fault = error
        }
        return try .json(
            VerificationAnswer(
                tenantID: tenantID.description, entries: verifier.entryCount, heads: verifier.headCount,
                lastSequence: verifier.sequence, hasMore: fault == nil && verifier.sequence < head?.sequence ?? 0,
                verified: fault == nil, firstBad: fault.map(VerificationAnswer.FirstBad.init)))
    }

    private static func follow(
        _ verifier: inout ChainVerifier<LedgerEntry>, to end: Int64, of tenantID: TenantID,
        _ proofs: any ProofAdministration
    ) async throws(ChainFault) {
        while verifier.sequence < end {
            let page: ChainPage<LedgerEntry>
            do throws(AdministrationFailure) {
                page = try await proofs.ledgerPage(
                    of: tenantID, after: verifier.sequence, through: end, limit: pageLimit)
            } catch {
                throw verifier.fault("the database could not be read to the end")
            }
            guard !page.entries.isEmpty else { throw verifier.missing("the entry is gone from the ledger") }
            var heads = page.heads[...]
            for sealed in page.entries {
                try verifier.take(sealed)
                while let next = heads.first, next.sequence <= sealed.sequence {
                    try verifier.take(next)
                    heads = heads.dropFirst()
                }
            }
        }
    }

    /// The audit log of the installation as JSON Lines, page by page.
    func exportAudit(_ call: AdminCall) async throws -> Response {
        let proofs = try present
        let head = try await proofs.auditHead()
        return Response(
            status: .ok, headers: [.contentType: "application/x-ndjson"],
            body: ResponseBody { writer in
                let first = ChainExport.first(AuditRow.self, .audit, after: 0, hash: ProofChain.audit.origin)
                try await writer.write(ByteBuffer(bytes: first + [0x0A]))
                let end = head?.sequence ?? 0
                var (position, count) = (Int64(0), Int64(0))
                while position < end {
                    let page = try await proofs.auditPage(after: position, through: end, limit: Self.pageLimit)
                    guard let last = page.entries.last else { break }
                    try await writer.write(ByteBuffer(bytes: ChainExport.lines(page)))
                    position = last.sequence
                    count += Int64(page.entries.count)
                }
                try await writer.write(ByteBuffer(bytes: ChainExport.last(count: count, head: head) + [0x0A]))
                try await writer.finish(nil)
            })
    }
}

private struct SigningKeyAnswer: Encodable {
    let id: String
    let object = "signing_key"
    let algorithm = "ed25519"
    let publicKey: String
    let state: String
    let createdAt: String
    @Present var retiredAt: String?

    enum CodingKeys: String, CodingKey {
        case id, object, algorithm, state
        case publicKey = "public_key"
        case createdAt = "created_at"
        case retiredAt = "retired_at"
    }

    init(_ key: PublicSigningKey) {
        id = key.id.description
        publicKey = key.publicKey.hexadecimal
        state = key.state.rawValue
        createdAt = key.createdAt.description
        retiredAt = key.retiredAt?.description
    }
}

private struct VerificationAnswer: Encodable {
    let object = "ledger_verification"
    let tenantID: String
    let entries: Int64
    let heads: Int64
    let lastSequence: Int64
    let hasMore: Bool
    let verified: Bool
    @Present var firstBad: FirstBad?

    enum CodingKeys: String, CodingKey {
        case object, entries, heads, verified
        case tenantID = "tenant_id"
        case lastSequence = "last_seq"
        case hasMore = "has_more"
        case firstBad = "first_bad"
    }

    init(
        tenantID: String, entries: Int64, heads: Int64, lastSequence: Int64, hasMore: Bool, verified: Bool,
        firstBad: FirstBad?
    ) {
        self.tenantID = tenantID
        self.entries = entries
        self.heads = heads
        self.lastSequence = lastSequence
        self.hasMore = hasMore
        self.verified = verified
        self.firstBad = firstBad
    }

    struct FirstBad: Encodable {
        let sequence: Int64
        @Present var entryID: String?
        let reason: String

        enum CodingKeys: String, CodingKey {
            case reason
            case sequence = "seq"
            case entryID = "entry_id"
        }

        init(_ fault: ChainFault) {
            sequence = fault.sequence
            entryID = fault.entry
            reason = fault.reason
        }
    }
}
