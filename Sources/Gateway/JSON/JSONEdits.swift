internal import NIOCore

/// Changes to a document that leave every other byte of it as it stands.
struct JSONEdits {
    private struct Edit {
        let start: Int
        let end: Int
        let text: String
    }

    private let tape: JSONTape
    private var edits: [Edit] = []

    init(_ tape: JSONTape) { self.tape = tape }

    /// - Parameter text: a JSON value.
    mutating func replace(_ value: JSONTape.Value, with text: String) {
        let token = tape.tokens[value.index]
        let quote = token.kind == .string ? 1 : 0
        edits.append(Edit(start: Int(token.start) - quote, end: Int(token.end) + quote, text: text))
    }

    /// Puts a member in front of those of an object.
    /// - Parameter member: as `"name":value`; a name that the object does not have.
    mutating func insert(_ member: String, into object: JSONTape.Value? = nil) {
        let object = object ?? tape.root
        let token = tape.tokens[object.index]
        guard token.kind == .object else { return }
        let isEmpty = Int(token.next) == object.index + 1
        let start = Int(token.start) + 1
        // Several members for one object: only the last of them stands before the end of an empty one.
        let hasMore = !isEmpty || edits.contains { $0.start == start && $0.end == start }
        edits.append(Edit(start: start, end: start, text: hasMore ? member + "," : member))
    }

    /// The document with its changes; the very bytes where there are none.
    func apply() -> ByteBuffer {
        guard !edits.isEmpty else { return tape.bytes }
        // At one place the one that was made last stands first, so that each brings the comma behind it.
        let sorted = edits.enumerated().sorted { left, right in
            left.element.start == right.element.start
                ? left.offset > right.offset : left.element.start < right.element.start
        }
        var output = ByteBuffer()
        output.reserveCapacity(tape.bytes.readableBytes + edits.reduce(0) { $0 + $1.text.utf8.count })
        var rest = tape.bytes
        var position = 0
        for (_, edit) in sorted {
            if let kept = rest.readSlice(length: edit.start - position) { output.writeImmutableBuffer(kept) }
            output.writeString(edit.text)
            rest.moveReaderIndex(forwardBy: edit.end - edit.start)
            position = edit.end
        }
        output.writeImmutableBuffer(rest)
        return output
    }
}
