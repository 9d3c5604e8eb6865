import Foundation
import TestSupport
import Testing

@testable import ReferenceWorker

@Suite("Models that misbehave on purpose")
struct FaultTests {
    private static let configuration = ReferenceWorkerServer.Configuration(
        allowsFaults: true, slowFaultMilliseconds: 300)

    private static func predict(_ fault: FaultModel) -> String {
        let body = #"{"model":"\#(fault.rawValue)","features":[1,2]}"#
        return "POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: \(body.utf8.count)\r\n\r\n\(body)"
    }

    private func usage(of fault: FaultModel, _ body: (Int64?, Int64?) throws -> Void) async throws {
        try await WorkerUnderTest.run(nil, Self.configuration) { worker in
            let predicted = try await worker.predict(#"{"model":"\#(fault.rawValue)","features":[1,2]}"#).object()
            try body(integer(predicted, "usage", "input_tokens"), integer(predicted, "usage", "output_tokens"))
            let tensor = #"{"name":"x","shape":[1,2],"datatype":"FP64","data":[1,2]}"#
            let inferred = try await worker.infer(
                #"{"id":"7","inputs":[\#(tensor)]}"#, path: "/v2/models/\(fault.rawValue)/infer"
            ).object()
            #expect(inferred["id"] as? String == "7")
            try body(integer(inferred, "parameters", "input_tokens"), integer(inferred, "parameters", "output_tokens"))
        }
    }

    @Test("they exist, with metadata, and take any number of features", arguments: FaultModel.allCases)
    func metadata(fault: FaultModel) async throws {
        try await WorkerUnderTest.run(nil, Self.configuration) { worker in
            let object = try await worker.get("/v2/models/\(fault.rawValue)").object()
            let inputs = try #require(object["inputs"] as? [[String: Any]])
            #expect(inputs[0]["shape"] as? [Int] == [-1, -1])
            expectStatus(200, of: try await worker.get("/v2/models/\(fault.rawValue)/ready"))
        }
    }

    @Test("fault-slow answers late")
    func slow() async throws {
        try await WorkerUnderTest.run(nil, Self.configuration) { worker in
            let start = ContinuousClock.now
            expectStatus(200, of: try await worker.predict(#"{"model":"fault-slow","features":[]}"#))
            #expect(ContinuousClock.now - start >= .milliseconds(300))
        }
    }

    @Test("fault-slow takes a minute unless told otherwise")
    func slowDefault() {
        #expect(ReferenceWorkerServer.Configuration().slowFaultMilliseconds == 60_000)
    }

    @Test("fault-500 answers 500")
    func error() async throws {
        try await WorkerUnderTest.run(nil, Self.configuration) { worker in
            let answer = try await worker.predict(#"{"model":"fault-500","features":[1]}"#)
            #expect(answer.status == 500)
            #expect(try !answer.error().isEmpty)
        }
    }

    @Test("fault-garbage answers 200 with what is not JSON")
    func garbage() async throws {
        try await WorkerUnderTest.run(nil, Self.configuration) { worker in
            let answer = try await worker.predict(#"{"model":"fault-garbage","features":[1]}"#)
            #expect(answer.status == 200)
            #expect(answer.header("content-type") == "application/json")
            #expect(throws: (any Error).self) { try JSONSerialization.jsonObject(with: answer.body) }
        }
    }

    @Test("fault-hang-up closes in the middle of the body")
    func hangUp() async throws {
        try await WorkerUnderTest.run(nil, Self.configuration) { worker in
            let connection = try RawConnection(port: worker.port)
            try await connection.write(Self.predict(.hangUp))
            do {
                let response = try await connection.response()
                Issue.record("the body came whole: \(response.body)")
            } catch RawConnection.Failure.ended(let part) {
                #expect(part.hasPrefix("{"))
            }
        }
    }

    @Test("fault-huge answers 64 MiB of valid JSON")
    func huge() async throws {
        try await WorkerUnderTest.run(nil, Self.configuration) { worker in
            let answer = try await worker.predict(#"{"model":"fault-huge","features":[1]}"#)
            #expect(answer.status == 200)
            #expect(answer.body.count == 64 * 1024 * 1024)
            #expect(answer.body.first == UInt8(ascii: "{"))
            #expect(answer.body.last == UInt8(ascii: " "))
        }
    }

    @Test("fault-lying reports 10^18 tokens")
    func lying() async throws {
        try await usage(of: .lying) { input, output in
            #expect(input == 1_000_000_000_000_000_000)
            #expect(output == 1_000_000_000_000_000_000)
        }
    }

    @Test("fault-negative reports fewer than none")
    func negative() async throws {
        try await usage(of: .negative) { input, output in
            #expect(input == -3)
            #expect(output == -1)
        }
    }

    @Test("fault-redirect sends elsewhere, where an answer waits")
    func redirect() async throws {
        try await WorkerUnderTest.run(nil, Self.configuration) { worker in
            let connection = try RawConnection(port: worker.port)
            try await connection.write(Self.predict(.redirect))
            let response = try await connection.response()
            #expect(response.status == 302)
            #expect(response.head.contains("location: /health\r\n"))
            expectStatus(200, of: try await worker.get("/health"))
        }
    }

    @Test("fault-wrong-length sends more than it declares and keeps the connection")
    func wrongLength() async throws {
        try await WorkerUnderTest.run(nil, Self.configuration) { worker in
            let connection = try RawConnection(port: worker.port)
            try await connection.write(Self.predict(.wrongLength))
            let first = try await connection.response()
            #expect(first.body.hasPrefix("{"))
            #expect(throws: (any Error).self) { try JSONSerialization.jsonObject(with: Data(first.body.utf8)) }
            try await connection.write("GET /v2 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            let rest = try await connection.rest()
            #expect(rest.dropFirst(7).hasPrefix("HTTP/1.1 200 "))
        }
    }
}
