internal import HTTPListener
internal import NIOCore

/// An answer as its caller is sent it: under its own id, and in the form that it asked for.
extension InferAnswer {
    /// The body of an answer.
    struct Written {
        let body: ByteBuffer
        /// Where the JSON ends and binary data begin; `nil` where there are none. Sent as `Inference-Header-Content-Length`.
        let jsonByteCount: Int?
    }

    /// - Parameters:
    ///   - kept: as ``read(_:wanted:)`` made it.
    ///   - version: the one that answered.
    static func write(_ kept: ByteBuffer, to request: InferRequest, version: String) -> Written {
        var body = begin(request.model, version, id: request.id.map { request.tape.slice($0) }, kept)
        if request.mayWantBinary, let tape = try? JSONTape(kept),
            let tail = binaryTail(tape, request, to: &body)
        {
            let count = body.readableBytes
            body.writeImmutableBuffer(tail)
            return Written(body: body, jsonByteCount: count)
        }
        splice(kept, into: &body)
        return Written(body: body, jsonByteCount: nil)
    }

    /// A generated text as its caller is sent it.
    static func write(_ kept: ByteBuffer, to request: GenerateRequest, version: String) -> ByteBuffer {
        var body = begin(request.model, version, id: request.id.map { request.tape.slice($0) }, kept)
        splice(kept, into: &body)
        return body
    }

    private static func begin(_ model: String, _ version: String, id: ByteBuffer?, _ kept: ByteBuffer) -> ByteBuffer {
        var body = ByteBuffer()
        body.reserveCapacity(kept.readableBytes + 256)
        body.writeStaticString("{\"model_name\":")
        body.writeJSONString(model)
        body.writeStaticString(",\"model_version\":")
        body.writeJSONString(version)
        if let id {
            body.writeStaticString(",\"id\":")
            body.writeImmutableBuffer(id)
        }
        body.writeStaticString(",")
        return body
    }

    /// Writes what stands behind the opening brace.
    private static func splice(_ kept: ByteBuffer, into body: inout ByteBuffer) {
        body.writeImmutableBuffer(
            kept.getSlice(at: kept.readerIndex + 1, length: max(kept.readableBytes - 1, 0)) ?? ByteBuffer())
    }

    /// Writes outputs and parameters, what is wanted in binary form without its data.
    /// - Returns: the binary data; `nil`, and nothing written, where there are none.
    private static func binaryTail(
        _ tape: JSONTape, _ request: InferRequest, to body: inout ByteBuffer
    ) -> ByteBuffer? {
        guard let list = tape.member("outputs", of: tape.root) else { return nil }
        var tail = ByteBuffer()
        var json = ByteBuffer()
        var isAnyBinary = false
        json.writeStaticString("\"outputs\":[")
        for (index, element) in tape.elements(of: list).enumerated() {
            if index > 0 { json.writeStaticString(",") }
            guard let name = tape.member("name", of: element).flatMap({ tape.string($0) }), request.wantsBinary(name),
                let tensor = try? tensor(element, of: tape, at: "")
            else {
                json.writeImmutableBuffer(tape.slice(element))
                continue
            }
            isAnyBinary = true
            let start = tail.readableBytes
            tensor.writeBinary(tape, to: &tail)
            writeBinaryHead(tensor, tape, byteCount: tail.readableBytes - start, to: &json)
        }
        guard isAnyBinary else { return nil }
        json.writeStaticString("]")
        if let parameters = tape.member("parameters", of: tape.root) {
            json.writeStaticString(",\"parameters\":")
            json.writeImmutableBuffer(tape.slice(parameters))
        }
        json.writeStaticString("}")
        body.writeImmutableBuffer(json)
        return tail
    }

    private static func writeBinaryHead(
        _ tensor: Tensor, _ tape: JSONTape, byteCount: Int, to json: inout ByteBuffer
    ) {
        writeHead(tensor, tape, to: &json)
        json.writeStaticString(",\"parameters\":{\"binary_data_size\":")
        json.writeDecimal(Int64(byteCount))
        for member in tensor.parameters.members {
            json.writeStaticString(",")
            json.writeImmutableBuffer(tape.slice(member.name))
            json.writeStaticString(":")
            json.writeImmutableBuffer(tape.slice(member.value))
        }
        json.writeStaticString("}}")
    }
}
