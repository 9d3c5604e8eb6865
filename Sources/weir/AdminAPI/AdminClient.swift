import AsyncHTTPClient
import Foundation
import Glibc
import NIOCore
import NIOPosix

/// Speaks to the admin API.
struct AdminClient: Sendable {
    private static let answerLimit = 134_217_728

    let baseURL: String
    private let key: String

    /// - Parameter key: an admin key. Secret.
    init(baseURL: String, key: String) {
        self.baseURL = baseURL
        self.key = key
    }

    init(_ settings: Settings) throws(ConfigurationFailure) {
        self.init(baseURL: settings.adminURL, key: try settings.presentAdminKey())
    }

    /// - Parameter seconds: how long the answer may take.
    /// - Throws: ``CommandFailure`` where nobody answers in time or the answer is an error.
    func send(_ call: AdminRequest, withinSeconds seconds: Int64 = 30) async throws(CommandFailure) -> AdminAnswer {
        try await answer(to: call, withinSeconds: seconds).checked()
    }

    /// The answer whatever its status is.
    /// - Throws: ``CommandFailure`` where nobody answers in time.
    func answer(to call: AdminRequest, withinSeconds seconds: Int64 = 30) async throws(CommandFailure) -> AdminAnswer {
        do {
            let response = try await CommandHTTP.client.execute(request(for: call), timeout: .seconds(seconds))
            let body = try await response.body.collect(upTo: Self.answerLimit)
            var answer = AdminAnswer(status: Int(response.status.code), body: Data(body.readableBytesView))
            answer.nextPage = response.headers.first(name: "x-weir-next-page")
            return answer
        } catch {
            if let error = error as? HTTPClientError, error == .deadlineExceeded || error == .readTimeout {
                throw CommandFailure(
                    "the admin API at \(baseURL) did not answer within \(seconds) s; what was asked may still go on there, "
                        + "so look before you ask again", status: .unavailable)
            }
            throw unreachable(error)
        }
    }

    /// The answer to a call whose body is read as it comes, however long that takes.
    /// - Throws: ``CommandFailure`` where nobody answers or the answer is an error.
    func open(_ call: AdminRequest) async throws(CommandFailure) -> HTTPClientResponse {
        do {
            let response = try await CommandHTTP.client.execute(request(for: call), timeout: .hours(24))
            if (200..<300).contains(response.status.code) { return response }
            let body = try await response.body.collect(upTo: Self.answerLimit)
            _ = try AdminAnswer(status: Int(response.status.code), body: Data(body.readableBytesView)).checked()
            return response
        } catch let failure as CommandFailure {
            throw failure
        } catch {
            throw unreachable(error)
        }
    }

    private func request(for call: AdminRequest) -> HTTPClientRequest {
        var request = HTTPClientRequest(url: baseURL + call.target)
        request.method = .init(rawValue: call.method.rawValue)
        request.headers.add(name: "authorization", value: "Bearer \(key)")
        request.headers.add(name: "accept", value: "application/json, application/problem+json")
        request.headers.add(name: "user-agent", value: "weir/\(Weir.version)")
        // Whoever sends the command's request again, on the way or here, must not grant a credit twice.
        if call.method == .post { request.headers.add(name: "idempotency-key", value: UUID().uuidString) }
        if let body = call.body {
            request.headers.add(name: "content-type", value: "application/json")
            request.body = .bytes(ByteBuffer(bytes: body))
        }
        return request
    }

    private func unreachable(_ error: any Error) -> CommandFailure {
        CommandFailure(
            "cannot reach the admin API at \(baseURL) (\(Self.reason(error))): is `weir serve` or `weir dev` running there? "
                + "WEIR_ADMIN_URL says where to look", status: .unavailable)
    }

    /// Hands the body on piece by piece, however long it is.
    /// - Throws: ``CommandFailure`` as ``send(_:)``, and for an answer that is cut off.
    func stream(_ call: AdminRequest, to take: (ByteBuffer) throws -> Void) async throws {
        var request = HTTPClientRequest(url: baseURL + call.target)
        request.method = .init(rawValue: call.method.rawValue)
        request.headers.add(name: "authorization", value: "Bearer \(key)")
        request.headers.add(name: "user-agent", value: "weir/\(Weir.version)")
        let response: HTTPClientResponse
        do {
            response = try await CommandHTTP.client.execute(request, timeout: .hours(1))
        } catch {
            throw CommandFailure(
                "cannot reach the admin API at \(baseURL) (\(Self.reason(error)))", status: .unavailable)
        }
        guard response.status == .ok else {
            let body = try await response.body.collect(upTo: Self.answerLimit)
            _ = try AdminAnswer(status: Int(response.status.code), body: Data(body.readableBytesView)).checked()
            return
        }
        do {
            for try await piece in response.body { try take(piece) }
        } catch let failure as CommandFailure {
            throw failure
        } catch {
            throw CommandFailure("the answer was cut off (\(Self.reason(error)))", status: .unavailable)
        }
    }

    private static func reason(_ error: any Error) -> String {
        if let error = error as? HTTPClientError { return error.shortDescription }
        if let error = error as? IOError { return String(cString: strerror(error.errnoCode)) }
        if let error = error as? NIOConnectionError {
            return error.connectionErrors.isEmpty ? "no such host" : "connection refused"
        }
        return "\(type(of: error))"
    }
}
