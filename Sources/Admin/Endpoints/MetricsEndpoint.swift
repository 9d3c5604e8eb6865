internal import Hummingbird

/// `GET /metrics` in Prometheus' text format, version 0.0.4.
struct MetricsEndpoint: Sendable {
    let text: @Sendable () -> String

    func get(_ call: AdminCall) async throws -> Response {
        Response(
            status: .ok, headers: [.contentType: "text/plain; version=0.0.4; charset=utf-8"],
            body: .init(byteBuffer: .init(string: text())))
    }
}
