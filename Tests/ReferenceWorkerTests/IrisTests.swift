import Foundation
import Testing

@testable import ReferenceWorker

/// One row of what scikit-learn said, from `scripts/train-iris.py`.
struct IrisRow {
    let features: [Double]
    let texts: [String]
    let label: String
    let predicted: String
    let probabilities: [Double]

    static func all() throws -> [IrisRow] {
        let file = repositoryRoot.appendingPathComponent("Tests/e2e/data/iris.csv")
        let lines = try String(contentsOf: file, encoding: .utf8).split(separator: "\n").dropFirst()
        return try lines.map { line in
            let fields = line.split(separator: ",").map(String.init)
            try #require(fields.count == 9)
            return IrisRow(
                features: try fields[0..<4].map { try #require(Double($0)) }, texts: Array(fields[0..<4]),
                label: fields[4], predicted: fields[5], probabilities: try fields[6...].map { try #require(Double($0)) }
            )
        }
    }
}

@Suite("The iris model agrees with scikit-learn")
struct IrisTests {
    @Test("the data has 150 rows, and the model gets rows 71, 78, 84 and 107 wrong")
    func knownMistakes() throws {
        let rows = try IrisRow.all()
        #expect(rows.count == 150)
        let wrong = rows.indices.filter { rows[$0].label != rows[$0].predicted }.map { $0 + 1 }
        #expect(wrong == [71, 78, 84, 107])
    }

    @Test("every row asked alone by predict has scikit-learn's class and probabilities")
    func singly() async throws {
        let rows = try IrisRow.all()
        try await WorkerUnderTest.run { worker in
            for row in rows {
                let answer = try await worker.predict(
                    #"{"model":"iris","features":[\#(row.texts.joined(separator: ","))]}"#)
                try #require(answer.status == 200)
                let object = try answer.object()
                #expect(object["prediction"] as? String == row.predicted)
                try expectClose(doubles(object["probabilities"]), row.probabilities)
            }
        }
    }

    @Test("all rows asked at once by predict are answered in order")
    func batch() async throws {
        let rows = try IrisRow.all()
        let inputs = rows.map { "[\($0.texts.joined(separator: ","))]" }.joined(separator: ",")
        try await WorkerUnderTest.run { worker in
            let object = try await worker.predict(#"{"model":"iris","inputs":[\#(inputs)]}"#).object()
            #expect(object["prediction"] as? [String] == rows.map(\.predicted))
            let probabilities = try #require(object["probabilities"] as? [[NSNumber]])
            try #require(probabilities.count == 150)
            for (row, numbers) in zip(rows, probabilities) { try expectClose(doubles(numbers), row.probabilities) }
            #expect(integer(object, "usage", "input_tokens") == 600)
            #expect(integer(object, "usage", "output_tokens") == 150)
        }
    }

    @Test("all rows asked at once by the Open Inference Protocol are answered in order")
    func tensor() async throws {
        let rows = try IrisRow.all()
        let data = rows.flatMap(\.texts).joined(separator: ",")
        try await WorkerUnderTest.run { worker in
            let object = try await worker.infer(
                #"{"inputs":[{"name":"input0","shape":[150,4],"datatype":"FP64","data":[\#(data)]}]}"#
            ).object()
            let outputs = try #require(object["outputs"] as? [[String: Any]])
            #expect(outputs[0]["data"] as? [String] == rows.map(\.predicted))
            try expectClose(doubles(outputs[1]["data"]), rows.flatMap(\.probabilities))
        }
    }

    private func expectClose(_ actual: [Double], _ expected: [Double]) throws {
        try #require(actual.count == expected.count)
        for (one, other) in zip(actual, expected) { #expect(abs(one - other) <= 1e-9) }
    }
}
