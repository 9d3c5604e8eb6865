import NIOCore
import NIOHTTP1

extension InferenceService {
    func predict(_ request: WorkerRequest) throws(Refusal) -> Reply {
        let call = try reading { () throws(JSONError) in try PredictRequest([UInt8](request.body.readableBytesView)) }
        switch try served(name: call.model, version: call.version) {
        case .fault(let fault):
            return try fail(fault, values: call.values.count, request) { $0.predictBody(isBatch: call.isBatch) }
        case .tabular(let model):
            try checkWidth(of: call, model)
            let answer = try execute(model, call.values, rows: call.rows, request)
            return delayed(.ok(answer.predictBody(isBatch: call.isBatch)))
        }
    }

    func infer(_ request: WorkerRequest, name: String, version: String?) throws(Refusal) -> Reply {
        let served = try served(name: name, version: version)
        guard !request.hasBinaryTensors else {
            throw .badRequest("the binary tensor data extension is not supported; send data as JSON")
        }
        let call = try reading { () throws(JSONError) in try InferRequest([UInt8](request.body.readableBytesView)) }
        guard call.inputs.count == 1, let input = call.inputs.first else {
            throw .badRequest("model \(name) takes one input tensor, and \(call.inputs.count) were given")
        }
        switch served {
        case .fault(let fault):
            let values = try reading { () throws(JSONError) in try input.values() }
            return try fail(fault, values: values.count, request) { $0.inferBody(id: call.id, outputs: nil) }
        case .tabular(let model):
            let rows = try rows(of: input, model)
            try checkOutputs(call.outputs, model)
            let values = try reading { () throws(JSONError) in try input.values() }
            let answer = try execute(model, values, rows: rows, request)
            return delayed(.ok(answer.inferBody(id: call.id, outputs: call.outputs)))
        }
    }

    // MARK: Checks

    private func reading<Value>(_ read: () throws(JSONError) -> Value) throws(Refusal) -> Value {
        do throws(JSONError) {
            return try read()
        } catch {
            throw Refusal(error)
        }
    }

    private func checkWidth(of call: PredictRequest, _ model: TabularModel) throws(Refusal) {
        let expected = model.features.count
        let wrong = call.width == expected ? call.irregularRow : (0, call.width)
        guard let wrong else { return }
        throw .badRequest(
            call.isBatch
                ? "inputs[\(wrong.position)] has \(wrong.count) features, and model \(model.name) takes \(expected)"
                : "model \(model.name) takes \(expected) features, and \(wrong.count) were given")
    }

    /// The rows of a tensor of shape `[n, features]`, or of a single row of shape `[features]`. The tensor's name is
    /// not looked at: there is one, so it cannot be mistaken.
    private func rows(of input: InputTensor, _ model: TabularModel) throws(Refusal) -> Int {
        _ = try reading { () throws(JSONError) in try input.elementCount() }
        let width = model.features.count
        guard input.shape.count == 1 || input.shape.count == 2, input.shape.last == width else {
            throw .badRequest(
                "\(input.position): model \(model.name) takes \(width) features, that is shape [n,\(width)], and shape "
                    + "\(input.shape.description.filter { $0 != " " }) was given")
        }
        let rows = input.shape.count == 2 ? input.shape[0] : 1
        guard rows > 0 else { throw .badRequest("\(input.position) has no rows") }
        return rows
    }

    private func checkOutputs(_ outputs: [String]?, _ model: TabularModel) throws(Refusal) {
        guard let outputs else { return }
        let names = OutputTensor.names(classCount: model.classes.count)
        guard outputs.allSatisfy(names.contains) else {
            throw .badRequest(
                "model \(model.name) has the outputs \(names.joined(separator: ", ")), and another one was asked for")
        }
        guard Set(outputs).count == outputs.count else { throw .badRequest("an output was asked for twice") }
    }

    // MARK: Execution

    private func execute(
        _ model: TabularModel, _ values: [Double], rows: Int, _ request: WorkerRequest
    ) throws(Refusal) -> Answer {
        guard let evaluation = model.evaluate(values, rows: rows) else {
            throw .badRequest("the features lead to a number that is not finite")
        }
        let usage = TokenCount(values: values.count, rows: rows)
        try record(model: model.name, version: model.version, usage, request)
        return Answer(model: model, evaluation: evaluation, rows: rows, usage: usage)
    }

    private func record(model: String, version: String, _ usage: TokenCount, _ request: WorkerRequest) throws(Refusal) {
        if let journal {
            guard journal.append(requestID: request.requestID, model: model, version: version, usage: usage) else {
                throw Refusal(status: .internalServerError, message: "the journal cannot be written")
            }
        }
        counters.countInference(usage)
    }

    private func delayed(_ reply: Reply) -> Reply {
        var reply = reply
        reply.delayMilliseconds = delayMilliseconds
        return reply
    }

    // MARK: Faults

    private func fail(
        _ fault: FaultModel, values: Int, _ request: WorkerRequest, body: (Answer) -> ByteBuffer
    ) throws(Refusal) -> Reply {
        let honest = TokenCount(values: values, rows: 1)
        if fault.executes {
            try record(model: fault.rawValue, version: FaultModel.version, honest, request)
        }
        var reply = delayed(.ok(body(Answer(fault: fault, usage: honest))))
        switch fault {
        case .slow: reply.delayMilliseconds = slowFaultMilliseconds
        case .error: throw Refusal(status: .internalServerError, message: "this model fails on purpose")
        case .garbage: reply.body = ByteBuffer(string: "<<< this is not JSON >>>")
        case .hangUp: reply.bodyFault = .cutShort
        case .huge: reply.bodyFault = .padded(byteCount: FaultModel.hugeBodyBytes)
        case .lying:
            let count: Int64 = 1_000_000_000_000_000_000
            reply.body = body(Answer(fault: fault, usage: TokenCount(input: count, output: count)))
        case .negative:
            reply.body = body(Answer(fault: fault, usage: TokenCount(input: -honest.input - 1, output: -1)))
        case .redirect:
            reply.status = .found
            reply.headers.append(("location", "/health"))
        case .wrongLength: reply.bodyFault = .understated(byteCount: 7)
        }
        return reply
    }
}
