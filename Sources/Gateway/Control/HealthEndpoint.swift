internal import Domain
internal import HTTPListener
internal import Hummingbird

/// The open pages about the service itself.
struct HealthEndpoint: Sendable {
    let health: any HealthSource
    let contract: String

    func root(_ request: Request, _ context: ControlContext) async throws -> Response {
        try .json(["name": "weir", "version": WeirVersion.text, "documentation": "/openapi.yaml", "status": "running"])
    }

    /// The process is alive; asks nobody.
    func alive(_ request: Request, _ context: ControlContext) async throws -> Response {
        try .json(["alive": true])
    }

    func overview(_ request: Request, _ context: ControlContext) async throws -> Response {
        let report = await health.report()
        return try .json(
            Overview(
                status: report.degradations.isEmpty && report.models.values.contains(true) ? "healthy" : "degraded",
                postgres: report.postgres == .available ? "up" : "down", redis: Self.upOrDown(report.redis),
                models: report.models.mapValues { $0 ? "ready" : "unavailable" }))
    }

    func ready(_ request: Request, _ context: ControlContext) async throws -> Response {
        let report = await health.report()
        let answer = Readiness(
            ready: report.isReady, degraded: report.degradations,
            checks: [
                "postgres": Self.okOr(report.postgres), "redis": Self.okOr(report.redis),
                "rate_limits": Self.whereLimitsHold(report.rateLimits),
                "cache": Self.whereLimitsHold(report.cache),
                "settlement": report.isSettlementAccepting ? "ok" : "unavailable",
                "routes": report.models.values.contains(true) ? "ok" : "unavailable",
            ])
        var response = try Response.json(answer, status: report.isReady ? .ok : .serviceUnavailable)
        if !report.isReady { response.headers[.retryAfter] = "2" }
        return response
    }

    func openAPI(_ request: Request, _ context: ControlContext) async throws -> Response {
        Response(
            status: .ok, headers: [.contentType: "application/yaml"], body: .init(byteBuffer: .init(string: contract)))
    }

    private static func upOrDown(_ state: DependencyState) -> String {
        switch state {
        case .available: "up"
        case .unavailable: "down"
        case .notConfigured: state.rawValue
        }
    }

    /// `in_process` says that each gateway enforces rate limits, or caches, on its own; `ok` that it is done over all.
    private static func whereLimitsHold(_ state: DependencyState) -> String {
        state == .available ? "ok" : "in_process"
    }

    private static func okOr(_ state: DependencyState) -> String { state == .available ? "ok" : state.rawValue }

    private struct Overview: Encodable {
        let status: String
        let postgres: String
        let redis: String
        let models: [String: String]
    }

    private struct Readiness: Encodable {
        let ready: Bool
        let degraded: [String]
        let checks: [String: String]
    }
}

/// The version of this build.
public enum WeirVersion {
    public static let text = "0.1.0"
}
