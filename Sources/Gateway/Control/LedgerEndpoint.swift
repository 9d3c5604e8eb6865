internal import Domain
internal import HTTPListener
internal import Hummingbird
internal import LedgerProof
internal import NIOCore

/// `/api/v1/ledger`: the tenant's sealed ledger, to verify without us.
struct LedgerEndpoint: Sendable {
    let records: any LedgerProofRecords

    /// Entries of one read of an export: what is in memory of it at once.
    private static let pageLimit = 500

    func head(_ request: Request, _ context: ControlContext) async throws -> Response {
        _ = try QueryParameters(request, allowed: [])
        guard let head = try await records.head(tenantID: try context.caller.tenantID) else {
            throw Refusal(.notFound, "Your ledger has no entry yet that is sealed. Entries are sealed within seconds.")
        }
        return .proof(head.json)
    }

    func entries(_ request: Request, _ context: ControlContext) async throws -> Response {
        let tenantID = try context.caller.tenantID
        let query = try QueryParameters(request, allowed: ["after", "limit", "format"])
        let after = Int64(try query.integer("after", in: 0...Int(Int64.max), default: 0))
        let format = try query.value("format", "json or jsonl", fix: "Leave it out for json.") {
            $0 == "json" || $0 == "jsonl" ? $0 : nil
        }
        let wantsLines = format == "jsonl" || format == nil && Self.prefersLines(request)
        if wantsLines, query.text("limit") != nil {
            throw Refusal.invalid("limit", "cannot be sent for an export", fix: "Leave it out: an export is whole.")
        }
        let limit = try query.integer("limit", in: 1...100, default: 20)
        // What is sealed never changes: everything up to this head is one state, however long the reading takes.
        let head = try await records.head(tenantID: tenantID)
        let end = head?.sequence ?? 0
        guard after <= end, let previous = try await hash(at: after, tenantID) else {
            throw Refusal.invalid(
                "after", "is behind the last sealed entry, \(end)", fix: "Send the sequence number of an entry, or 0.")
        }
        if wantsLines { return export(after: after, previous, head, tenantID) }
        let page = try await records.entries(after: after, through: end, limit: limit, tenantID: tenantID)
        let isLast = (page.entries.last?.sequence ?? end) >= end
        return .proof(ChainExport.list(page, previousHash: previous, hasMore: !isLast))
    }

    func proof(_ request: Request, _ context: ControlContext) async throws -> Response {
        _ = try QueryParameters(request, allowed: [])
        guard let id = context.parameters.get("request").flatMap({ Domain.RequestID(publicText: $0) }) else {
            throw Self.unknown
        }
        switch try await records.proof(of: id, tenantID: try context.caller.tenantID) {
        case .unknown: throw Self.unknown
        case .notSealed:
            throw Refusal(
                .conflict, "The entry is in the ledger and not sealed yet. Try again in a second.", retryAfterSeconds: 1
            )
        case .proved(let proof):
            guard let document = ProofDocument(proof) else { throw Self.unknown }
            return .proof(document.json)
        }
    }

    private static let unknown = Refusal(
        .notFound, "There is no ledger entry of such a request, or it is not yours to see.")

    private func hash(at sequence: Int64, _ tenantID: TenantID) async throws -> ProofHash? {
        guard sequence > 0 else { return ProofChain.ledger(tenantID).origin }
        return try await records.hash(at: sequence, tenantID: tenantID)
    }

    private static func prefersLines(_ request: Request) -> Bool {
        request.headers[.accept]?.lowercased().contains("application/x-ndjson") ?? false
    }

    /// Page by page; a failure in the middle ends the connection, and what was sent has no last line.
    private func export(
        after: Int64, _ previous: ProofHash, _ head: SignedHead?, _ tenantID: TenantID
    ) -> Response {
        Response(
            status: .ok, headers: [.contentType: "application/x-ndjson"],
            body: ResponseBody { [records] writer in
                let first = ChainExport.first(LedgerEntry.self, .ledger(tenantID), after: after, hash: previous)
                try await writer.write(ByteBuffer(bytes: first + [0x0A]))
                let end = head?.sequence ?? 0
                var (position, count) = (after, Int64(0))
                while position < end {
                    let page = try await records.entries(
                        after: position, through: end, limit: Self.pageLimit, tenantID: tenantID)
                    guard let last = page.entries.last else { break }
                    try await writer.write(ByteBuffer(bytes: ChainExport.lines(page)))
                    position = last.sequence
                    count += Int64(page.entries.count)
                }
                let trailer = ChainExport.last(count: count, head: head)
                try await writer.write(ByteBuffer(bytes: trailer + [0x0A]))
                try await writer.finish(nil)
            })
    }
}

/// `GET /.well-known/weir-keys`: the public halves of all keys that ever signed.
struct SigningKeysEndpoint: Sendable {
    let ring: SigningKeyRing

    func get(_ request: Request, _ context: ControlContext) async throws -> Response {
        _ = try QueryParameters(request, allowed: [])
        if ring.publicKeys.isEmpty {
            do throws(StoreUnavailable) {
                try await ring.refresh()
            } catch {
                throw Refusal.storageUnavailable(cause: error.cause)
            }
        }
        return .proof(KeySet.json(ring.publicKeys))
    }
}

extension Response {
    /// JSON whose bytes are part of the API.
    fileprivate static func proof(_ json: [UInt8]) -> Response {
        Response(
            status: .ok, headers: [.contentType: "application/json"],
            body: ResponseBody(byteBuffer: ByteBuffer(bytes: json)))
    }
}
