internal import Domain
internal import HTTPListener
internal import Hummingbird

/// `/admin/v1/tiers`: prices and quotas, in versions that never change once they are published.
struct TiersEndpoint: Sendable {
    let administration: any Administration
    let time: any TimeSource
    /// By how much a price may move without a word.
    let priceChangeFactor: Int64

    // MARK: Tiers

    func list(_ call: AdminCall) async throws -> Response {
        let page = try await administration.tiers(try call.query.page(QueryParameters.nameCursor))
        return try .json(ListAnswer(page, cursor: \.code, TierAnswer.init))
    }

    func create(_ call: AdminCall) async throws -> Response {
        let input = try await RequestBodyReader.object(call, fields: ["code", "name", "tenant_id", "version"])
        let code = input.required("code", .tierCode)
        if let code, Self.reserved.contains(code) {
            input.note("code", "is a word of the API", fix: "Take another code.")
        }
        let name = input.required("name", .name)
        let tenant = input.nullable("tenant_id", .tenantID)
        let offer = input.object("version", fields: TierOfferInput.fields).flatMap {
            TierOfferInput(now: time.now).read($0)
        }
        try input.problems.check()
        guard let code, let name, let offer else { throw input.problems.refusal }
        let row = try await administration.createTier(
            NewTier(code: code, name: name, tenantID: tenant, offer: offer), by: call.actor)
        return try .json(TierAnswer(row), status: .created)
    }

    /// What follows `/admin/v1/tiers/` and is no tier.
    private static let reserved: Set<String> = ["analysis", "replay"]

    func one(_ call: AdminCall) async throws -> Response {
        try .json(TierAnswer(try await administration.tier(try call.tierCode())))
    }

    // MARK: Versions

    func versions(_ call: AdminCall) async throws -> Response {
        let page = try call.query.page { text in Int32(text).flatMap { $0 > 0 ? $0 : nil } }
        let versions = try await administration.tierVersions(of: try call.tierCode(), page)
        return try .json(ListAnswer(versions, cursor: { String($0.version.number) }, TierVersionAnswer.init))
    }

    func draft(_ call: AdminCall) async throws -> Response {
        let code = try call.tierCode()
        let input = try await RequestBodyReader.object(call, fields: TierOfferInput.fields)
        let offer = TierOfferInput(now: time.now).read(input)
        try input.problems.check()
        guard let offer else { throw input.problems.refusal }
        let row = try await administration.draftTierVersion(of: code, offer, by: call.actor)
        return try .json(TierVersionAnswer(row), status: .created)
    }

    func version(_ call: AdminCall) async throws -> Response {
        try .json(TierVersionAnswer(try await administration.tierVersion(try call.tierVersion())))
    }

    func change(_ call: AdminCall) async throws -> Response {
        let name = try call.tierVersion()
        let input = try await RequestBodyReader.object(call, fields: TierOfferInput.fields.subtracting(["currency"]))
        try input.problems.check()
        let old = try await administration.tierVersion(name).version.offer
        let new = TierOfferInput(now: time.now, base: old).read(input)
        try input.problems.check()
        guard let new else { throw input.problems.refusal }
        let row = try await administration.changeTierDraft(name, from: old, to: new, by: call.actor)
        return try .json(TierVersionAnswer(row))
    }

    func delete(_ call: AdminCall) async throws -> Response {
        try await administration.deleteTierDraft(try call.tierVersion(), by: call.actor)
        return Response(status: .noContent)
    }

    func publish(_ call: AdminCall) async throws -> Response {
        let name = try call.tierVersion()
        let input = try await RequestBodyReader.object(call, fields: ["confirm"])
        let confirmation = input.nullable("confirm", .replayDigest)
        try input.problems.check()
        let row = try await administration.publishTierVersion(
            name, TierPublication(factor: priceChangeFactor, confirmation: confirmation), by: call.actor)
        return try .json(TierVersionAnswer(row))
    }

    func retire(_ call: AdminCall) async throws -> Response {
        try .json(TierVersionAnswer(try await administration.retireTierVersion(try call.tierVersion(), by: call.actor)))
    }
}

extension AdminCall {
    /// A malformed code is unknown.
    func tierCode() throws(Refusal) -> String {
        guard let text = context.parameters.get("code"), (1...64).contains(text.utf8.count) else {
            throw Refusal(.notFound, "There is no such tier.")
        }
        return text
    }

    /// A malformed number is unknown.
    func tierVersion() throws(Refusal) -> TierVersionName {
        guard let text = context.parameters.get("version"), let number = Int32(text), number > 0 else {
            throw Refusal(.notFound, "There is no such version of this tier.")
        }
        return TierVersionName(code: try tierCode(), number: number)
    }
}

extension InputRule where Value == String {
    static var replayDigest: InputRule {
        InputRule(
            expectation: "the digest of a replay: 64 hexadecimal digits",
            fix: "Take digest from POST /admin/v1/tiers/{code}/versions/{version}/replay."
        ) { value in
            guard case .string(let text) = value, text.utf8.count == 64,
                text.utf8.allSatisfy({ (0x30...0x39).contains($0) || (0x61...0x66).contains($0) })
            else { return nil }
            return text
        }
    }
}
