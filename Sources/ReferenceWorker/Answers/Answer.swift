import NIOCore

/// What a model said, ready to be written in either protocol.
struct Answer {
    enum Predictions {
        case labels([String])
        case numbers([Double])
    }

    let model: String
    let version: String
    let predictions: Predictions
    /// `classCount` numbers per row, one row after the other; empty where the model has no classes.
    let probabilities: [Double]
    let classCount: Int
    let rows: Int
    let usage: TokenCount

    init(model: TabularModel, evaluation: TabularModel.Evaluation, rows: Int, usage: TokenCount) {
        self.model = model.name
        version = model.version
        self.rows = rows
        self.usage = usage
        classCount = model.classes.count
        switch evaluation {
        case .classes(let positions, let probabilities):
            predictions = .labels(positions.map { model.classes[$0] })
            self.probabilities = probabilities
        case .numbers(let numbers):
            predictions = .numbers(numbers)
            probabilities = []
        }
    }

    init(fault: FaultModel, usage: TokenCount) {
        model = fault.rawValue
        version = FaultModel.version
        predictions = .labels(["fault"])
        probabilities = [1]
        classCount = 1
        rows = 1
        self.usage = usage
    }

    // MARK: Plain predict

    /// `{"model", "version", "prediction", "probabilities"?, "usage"}`; lists with one entry per row for a batch.
    func predictBody(isBatch: Bool) -> ByteBuffer {
        var json = JSONWriter(capacity: 192 + 32 * (probabilities.count + rows))
        json.raw("{\"model\":")
        json.string(model)
        json.raw(",\"version\":")
        json.string(version)
        json.raw(",\"prediction\":")
        if isBatch {
            writePredictions(&json)
        } else {
            switch predictions {
            case .labels(let labels): json.string(labels[0])
            case .numbers(let numbers): json.double(numbers[0])
            }
        }
        if classCount > 0 {
            json.raw(",\"probabilities\":")
            if isBatch {
                json.list(0..<rows) { json, row in
                    let start = row * classCount
                    json.list(probabilities[start..<start + classCount]) { $0.double($1) }
                }
            } else {
                json.list(probabilities) { $0.double($1) }
            }
        }
        json.raw(",\"usage\":")
        writeUsage(&json)
        json.raw("}")
        return json.buffer
    }

    // MARK: Open Inference Protocol

    /// "Inference Response" of the protocol, with flat data. The usage stands in the `parameters` of the response.
    /// - Parameter outputs: names that the model has; all of them where it is `nil`.
    func inferBody(id: String?, outputs: [String]?) -> ByteBuffer {
        var json = JSONWriter(capacity: 384 + 32 * (probabilities.count + rows))
        json.raw("{\"model_name\":")
        json.string(model)
        json.raw(",\"model_version\":")
        json.string(version)
        if let id {
            json.raw(",\"id\":")
            json.string(id)
        }
        json.raw(",\"parameters\":")
        writeUsage(&json)
        json.raw(",\"outputs\":")
        json.list(outputs ?? OutputTensor.names(classCount: classCount)) { json, name in
            name == OutputTensor.probabilities ? writeProbabilitiesTensor(&json) : writePredictionTensor(&json)
        }
        json.raw("}")
        return json.buffer
    }

    private func writePredictionTensor(_ json: inout JSONWriter) {
        json.raw("{\"name\":\"prediction\",\"shape\":[")
        json.integer(rows)
        switch predictions {
        case .labels: json.raw("],\"datatype\":\"BYTES\",\"data\":")
        case .numbers: json.raw("],\"datatype\":\"FP64\",\"data\":")
        }
        writePredictions(&json)
        json.raw("}")
    }

    private func writeProbabilitiesTensor(_ json: inout JSONWriter) {
        json.raw("{\"name\":\"probabilities\",\"shape\":[")
        json.integer(rows)
        json.raw(",")
        json.integer(classCount)
        json.raw("],\"datatype\":\"FP64\",\"data\":")
        json.list(probabilities) { $0.double($1) }
        json.raw("}")
    }

    // MARK: Both

    private func writePredictions(_ json: inout JSONWriter) {
        switch predictions {
        case .labels(let labels): json.list(labels) { $0.string($1) }
        case .numbers(let numbers): json.list(numbers) { $0.double($1) }
        }
    }

    private func writeUsage(_ json: inout JSONWriter) {
        json.raw("{\"input_tokens\":")
        json.integer(usage.input)
        json.raw(",\"output_tokens\":")
        json.integer(usage.output)
        json.raw("}")
    }
}

/// The outputs that a model has in the Open Inference Protocol.
enum OutputTensor {
    static let prediction = "prediction"
    static let probabilities = "probabilities"

    static func names(classCount: Int) -> [String] {
        classCount > 0 ? [prediction, probabilities] : [prediction]
    }
}
