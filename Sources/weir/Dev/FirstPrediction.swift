import AsyncHTTPClient
import Foundation
import NIOCore

/// Small requests to our own listeners.
enum LocalHTTP {
    struct Answer: Sendable, Equatable {
        let status: Int
        /// Whether it carries the request id that Weir puts on everything.
        let isOurs: Bool
    }

    /// The status of a GET; `nil` if nobody answers.
    static func status(of url: String) async -> Int? { await answer(to: url)?.status }

    /// What a GET is answered with; `nil` if nobody answers.
    static func answer(to url: String) async -> Answer? {
        guard let response = try? await CommandHTTP.client.execute(HTTPClientRequest(url: url), timeout: .seconds(5))
        else { return nil }
        // The connection goes back to the pool only when the body is read.
        _ = try? await response.body.collect(upTo: 1_048_576)
        let requestID = response.headers.first(name: "x-request-id") ?? ""
        return Answer(status: Int(response.status.code), isOurs: requestID.hasPrefix("req_"))
    }
}

/// The prediction with which `weir dev` proves that everything works.
enum FirstPrediction {
    /// A row of Fisher's data set, of the class setosa.
    static let body = #"{"model":"iris","features":[5.1,3.5,1.4,0.2]}"#

    private struct Answer: Decodable {
        let prediction: Prediction

        /// The class, or the number where a model has no classes.
        enum Prediction: Decodable {
            case text(String)
            case number(Double)

            init(from decoder: any Decoder) throws {
                let container = try decoder.singleValueContainer()
                if let text = try? container.decode(String.self) {
                    self = .text(text)
                } else {
                    self = .number(try container.decode(Double.self))
                }
            }
        }
    }

    /// A machine that is just starting everything may be too busy for the gateway's own limits.
    private static let patience: Duration = .seconds(30)

    /// - Returns: what the screen says about it.
    static func make(publicURL: String, key: String) async throws -> String {
        let limit = ContinuousClock.now + patience
        while true {
            let (status, text) = try await ask(publicURL: publicURL, key: key)
            guard status == 503, ContinuousClock.now < limit else {
                return try sentence(status, text)
            }
            try await Task.sleep(for: .milliseconds(500))
        }
    }

    private static func ask(publicURL: String, key: String) async throws -> (status: UInt, text: String) {
        var request = HTTPClientRequest(url: publicURL + "/predict/")
        request.method = .POST
        request.headers.add(name: "authorization", value: "Bearer \(key)")
        request.headers.add(name: "content-type", value: "application/json")
        request.body = .bytes(ByteBuffer(string: body))
        let response = try await CommandHTTP.client.execute(request, timeout: .seconds(30))
        return (response.status.code, String(buffer: try await response.body.collect(upTo: 1_048_576)))
    }

    private static func sentence(_ status: UInt, _ text: String) throws -> String {
        guard status == 200, let answer = try? JSONDecoder().decode(Answer.self, from: Data(text.utf8)) else {
            throw CommandFailure("the first prediction was answered with \(status): \(text.prefix(500))")
        }
        switch answer.prediction {
        case .text(let name): return "an iris with the features 5.1, 3.5, 1.4, 0.2 is \(name)"
        case .number(let number): return "an iris with the features 5.1, 3.5, 1.4, 0.2 is \(number)"
        }
    }
}
