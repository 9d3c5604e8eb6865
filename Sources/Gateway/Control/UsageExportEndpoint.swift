internal import Domain
internal import HTTPListener
internal import Hummingbird

/// `GET /api/v1/usage/export`: the caller's usage, entry by entry or summed, as a file.
struct UsageExportEndpoint: Sendable {
    let exports: any UsageExports
    let time: any TimeSource

    func get(_ request: Request, _ context: ControlContext) async throws -> Response {
        let tenantID = try context.caller.tenantID
        let query = try ExportAnswer.query(
            try QueryParameters(request, allowed: ExportAnswer.parameters), tenantID: tenantID)
        return try await ExportAnswer.response(query, from: exports, time: time)
    }
}
