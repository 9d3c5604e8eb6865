internal import Domain
internal import HTTPListener
internal import NIOCore

/// An inference request as workers are sent it: always JSON, because not every worker reads binary data, and every one reads this.
extension InferRequest {
    /// The body for a worker of this protocol. The worker is told our id; the caller's own is only echoed.
    func writeInfer(requestID: RequestID, to buffer: inout ByteBuffer) {
        buffer.reserveCapacity(body.readableBytes + 256)
        buffer.writeStaticString("{\"id\":\"")
        buffer.writeString(requestID.publicText)
        buffer.writeStaticString("\"")
        writeQuestion(to: &buffer)
        buffer.writeStaticString("}")
    }

    /// Writes what is asked of the model: parameters, inputs, outputs, beginning with a comma.
    func writeQuestion(to buffer: inout ByteBuffer) {
        parameters.write(tape, to: &buffer)
        buffer.writeStaticString(",\"inputs\":[")
        for (index, input) in inputs.enumerated() {
            if index > 0 { buffer.writeStaticString(",") }
            writeHead(input, to: &buffer)
            buffer.writeStaticString(",\"data\":")
            input.writeJSON(tape, to: &buffer)
            buffer.writeStaticString("}")
        }
        buffer.writeStaticString("]")
        guard let outputs else { return }
        buffer.writeStaticString(",\"outputs\":[")
        for (index, output) in outputs.enumerated() {
            buffer.writeStaticString(index > 0 ? ",{\"name\":" : "{\"name\":")
            buffer.writeImmutableBuffer(tape.slice(output.name))
            output.parameters.write(tape, to: &buffer)
            buffer.writeStaticString("}")
        }
        buffer.writeStaticString("]")
    }

    private func writeHead(_ input: Tensor, to buffer: inout ByteBuffer) {
        buffer.writeStaticString("{\"name\":")
        buffer.writeImmutableBuffer(tape.slice(input.name))
        buffer.writeStaticString(",\"shape\":")
        buffer.writeShape(input.shape.sizes)
        buffer.writeStaticString(",\"datatype\":\"")
        buffer.writeString(input.datatype.rawValue)
        buffer.writeStaticString("\"")
        input.parameters.write(tape, to: &buffer)
    }

    // MARK: rows

    /// The one tensor of numbers as rows; what a worker of plain predict takes.
    struct Rows {
        let input: Tensor
        let count: Int
        let width: Int
    }

    /// - Returns: `nil` for anything but one tensor of numbers of the shape `[n, k]`, or `[k]` for a row alone.
    var rows: Rows? {
        guard inputs.count == 1, let input = inputs.first, input.datatype.isNumeric, input.shape.elementCount > 0 else {
            return nil
        }
        let sizes = input.shape.sizes
        switch sizes.count {
        case 1: return Rows(input: input, count: 1, width: sizes[0])
        case 2: return Rows(input: input, count: sizes[0], width: sizes[1])
        default: return nil
        }
    }

    /// Whether a worker of plain predict can be asked: for rows of numbers, and for the outputs that it has.
    var isPlain: Bool {
        guard rows != nil else { return false }
        return outputs?.allSatisfy { tape.matches($0.name, "prediction") || tape.matches($0.name, "probabilities") }
            ?? true
    }

    /// `{"model","version"?,"features"|"inputs"}`: one row alone as features, because not every such worker takes several.
    func writePredict(_ rows: Rows, model: String, version: String?, to buffer: inout ByteBuffer) {
        buffer.writeStaticString("{\"model\":\"")
        buffer.writeString(model)
        if let version {
            buffer.writeStaticString("\",\"version\":\"")
            buffer.writeString(version)
        }
        buffer.writeStaticString(rows.count == 1 ? "\",\"features\":" : "\",\"inputs\":[")
        rows.input.writeRows(width: rows.width, tape, to: &buffer)
        buffer.writeStaticString(rows.count == 1 ? "}" : "]}")
    }

    /// What the model's profile says of rows. Whatever is sent is counted by it, so a request of another form is refused.
    func check(against profile: ModelProfile) throws(Refusal) {
        guard let expected = profile.featureCount else { return }
        guard let rows, rows.width == expected else {
            throw .invalid(
                "/inputs",
                "must be one tensor of numbers of the shape [n,\(expected)], the model \(model) takes no other",
                fix: "Send \(expected) numbers for each row.")
        }
    }

    /// Rows that are answered: of a tensor of several dimensions the outermost is taken for the batch, as the protocol has no other word.
    var rowCount: Int {
        let shape = inputs[0].shape
        // Rows without an element are nothing that could be answered.
        return shape.sizes.count > 1 && shape.elementCount > 0 ? shape.sizes[0] : 1
    }
}

extension ByteBuffer {
    mutating func writeShape(_ sizes: [Int]) {
        writeStaticString("[")
        for (index, size) in sizes.enumerated() {
            if index > 0 { writeStaticString(",") }
            writeDecimal(Int64(size))
        }
        writeStaticString("]")
    }
}
