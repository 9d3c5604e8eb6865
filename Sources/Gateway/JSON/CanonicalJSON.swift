internal import HTTPListener
internal import NIOCore

extension JSONTape {
    /// Writes the document without what makes no difference to its meaning: no blanks between tokens, members in the order of their names'
    /// UTF-8 bytes, one way to escape a string. Numbers stand as they were written: `1` and `1.0` need not be the same to a model, and a
    /// number beyond 53 bits must not be rounded on the way.
    ///
    /// Libraries that do not keep the order of members send the same request in another order when they repeat it.
    /// - Parameter without: members of the outermost object that are left out.
    func writeCanonical(to buffer: inout ByteBuffer, without: Set<String> = []) {
        writeCanonical(root, to: &buffer, without: without)
    }

    /// As deep as the document, whose depth is bounded.
    private func writeCanonical(_ value: Value, to buffer: inout ByteBuffer, without: Set<String> = []) {
        switch kind(value) {
        case .object:
            var members: [(name: String, value: Value)] = []
            forEachMember(of: value) { key, member in members.append((string(key) ?? "", member)) }
            if !without.isEmpty { members.removeAll { without.contains($0.name) } }
            members.sort { $0.name.utf8.lexicographicallyPrecedes($1.name.utf8) }
            buffer.writeStaticString("{")
            for (index, member) in members.enumerated() {
                if index > 0 { buffer.writeStaticString(",") }
                buffer.writeJSONString(member.name)
                buffer.writeStaticString(":")
                writeCanonical(member.value, to: &buffer)
            }
            buffer.writeStaticString("}")
        case .array:
            buffer.writeStaticString("[")
            var isFirst = true
            for element in elements(of: value) {
                if !isFirst { buffer.writeStaticString(",") }
                isFirst = false
                writeCanonical(element, to: &buffer)
            }
            buffer.writeStaticString("]")
        case .string: buffer.writeJSONString(string(value) ?? "")
        case .number, .true, .false, .null: buffer.writeImmutableBuffer(slice(value))
        }
    }
}
