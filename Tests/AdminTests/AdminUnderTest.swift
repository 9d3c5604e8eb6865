import Billing
import Domain
import Hummingbird
import HummingbirdTesting
import Synchronization
import TestSupport
import Testing

@testable import Admin

/// The admin listener with everything around it made up.
struct AdminUnderTest: Sendable {
    let administration = FakeAdministration()
    let reports = FakeReports()
    let months = FakeMonths()
    var metrics: (@Sendable () -> String)? = { "weir_up 1\n" }
    var replicas: @Sendable () -> [ReplicaReading] = { [] }
    var streams = FakeStreams()

    var parts: AdminServer.Parts { parts(time: FixedTime()) }

    func parts(time: any TimeSource) -> AdminServer.Parts {
        var parts = AdminServer.Parts(
            administration: administration, authenticator: FakeAuthenticator(), prices: FakePrices(), metrics: metrics,
            isAllowed: { $0.host == "127.0.0.1" || $0.host == "::1" }, replicas: replicas, time: time)
        parts.queue = administration
        let rating = FakeRating()
        parts.tierStudies = AdminServer.TierStudies(
            analyst: TierAnalyst(records: rating, catalog: rating, series: rating, time: time),
            replayer: TierReplayer(records: rating, time: time), issued: InvoiceReplayer(records: rating))
        parts.exports = AdminExports(streams: streams, administration: administration, partRows: 100)
        parts.reconciliation = AdminReconciliation(
            reconciler: Reconciler(books: FakeBooks()), administration: administration)
        parts.stripe = administration
        parts.reports = reports
        parts.rating = months
        parts.credits = administration
        parts.subscriptions = administration
        parts.adjustments = administration
        parts.prepaid = administration
        parts.invoices = AdminServer.Invoices(
            records: administration, issuing: InvoiceIssuing(records: administration, rating: FakeEmptyMonths()),
            printer: FakePrinter())
        parts.proofs = administration
        return parts
    }

    /// Sends one request through the router, without a server around it.
    @discardableResult
    func send(
        _ method: String, _ path: String, key: String? = "admin", body: String? = nil,
        contentType: String? = "application/json",
        headers: HTTPFields = [:]
    ) async throws -> Answer {
        var headers = headers
        if let key { headers[.authorization] = "Bearer \(key)" }
        if body != nil, let contentType { headers[.contentType] = contentType }
        let sent = headers
        let verb = try #require(HTTPRequest.Method(method))
        return try await Application(responder: AdminRouter.underTest(parts).makeResponder())
            .test(.router) { client in
                let response = try await client.executeRequest(
                    uri: path, method: verb, headers: sent, body: body.map { ByteBuffer(string: $0) })
                return Answer(response)
            }
    }
}

extension AdminRouter {
    static func underTest(_ parts: AdminServer.Parts) -> AdminRouter {
        AdminRouter(
            parts: parts, maximumBodyBytes: 262_144,
            demand: ReplicaDemand(concurrency: 2, targetPercent: 50, minimumReplicas: 0, maximumReplicas: 9))
    }
}

struct Answer: Sendable {
    let status: Int
    let headers: HTTPFields
    let text: String

    init(_ response: TestResponse) {
        status = Int(response.status.code)
        headers = response.headers
        text = String(buffer: response.body)
    }

    /// The body as JSON; `null` for none.
    var json: JSONValue { (try? JSONDocument.parse(Array(text.utf8))) ?? .null }
    var code: String? { json["code"].text }
    /// Where and what, of every error.
    var errors: [String] {
        guard case .array(let list) = json["errors"] else { return [] }
        return list.map { "\($0["location"].text ?? "?") \($0["message"].text ?? "?")" }
    }
    var locations: [String] {
        guard case .array(let list) = json["errors"] else { return [] }
        return list.map { $0["location"].text ?? "?" }
    }
}

extension JSONValue {
    subscript(_ key: String) -> JSONValue {
        guard case .object(let members) = self else { return .null }
        return members[key] ?? .null
    }

    subscript(_ index: Int) -> JSONValue {
        guard case .array(let elements) = self, elements.indices.contains(index) else { return .null }
        return elements[index]
    }

    var text: String? {
        guard case .string(let text) = self else { return nil }
        return text
    }

    var keys: Set<String> {
        guard case .object(let members) = self else { return [] }
        return Set(members.keys)
    }

    var count: Int? {
        guard case .array(let elements) = self else { return nil }
        return elements.count
    }
}

/// A key is the name of its scope, or of what is wrong with it.
struct FakeAuthenticator: AdminAuthenticator {
    static let publicID = APIKey.PublicID("ADMINadmin01") ?? unreachable()

    func administrator(presenting key: [UInt8]?) async throws(Refusal) -> AdminPrincipal {
        guard let key else { throw Refusal(.missingKey, "Send a key.") }
        let text = String(decoding: key, as: UTF8.self)
        switch text {
        case "customer": throw Refusal(.wrongPlane, "A customer's key cannot administrate.")
        case "away":
            throw Refusal(.meteringUnavailable, "Usage cannot be recorded.", retryAfterSeconds: 2, cause: "down")
        case "none": return principal([])
        default:
            guard let scope = Scope(rawValue: text) else { throw Refusal(.invalidAPIKey, "The key is not valid.") }
            return principal([scope])
        }
    }

    private func principal(_ scopes: Set<Scope>) -> AdminPrincipal {
        AdminPrincipal(keyID: KeyID(high: 1, low: 1), publicID: Self.publicID, scopes: scopes)
    }
}

struct FixedTime: TimeSource {
    /// 2026-03-15T12:00:00Z.
    var now: Timestamp { Timestamp(microsecondsSince1970: 1_773_576_000_000_000) }
    var monotonicNanoseconds: UInt64 { 0 }
}

struct FakePrices: PriceSource {
    static let euro = TierVersionID(high: 0x0195_0000_0000_7000, low: 0x8000_0000_0000_0001)
    static let dollar = TierVersionID(high: 0x0195_0000_0000_7000, low: 0x8000_0000_0000_0002)

    func sheet(_ id: TierVersionID) async throws(StoreUnavailable) -> PriceSheet? {
        guard id == Self.euro || id == Self.dollar else { return nil }
        return PriceSheet(
            tierVersionID: id, tierCode: "plain", version: 1, currency: id == Self.euro ? "EUR" : "USD",
            prices: [PriceSheet.Price(meter: .request, model: "*", unitPrice: UnitPrice(picos: 1_500_000))])
    }
}

/// For texts of a test that are right by inspection.
func unreachable<Value>(_ what: String = "a constant of a test is wrong") -> Value { preconditionFailure(what) }
