/// What a `Range` field asks for of something of a known length (RFC 9110, section 14).
public enum ByteRange: Equatable, Sendable {
    /// No range, or one that this server does not serve: several, or another unit. The whole is the right answer to these.
    case whole
    case part(Range<Int>)
    case unsatisfiable

    /// - Parameters:
    ///   - field: the value of `Range`.
    ///   - length: of the whole, in bytes.
    public init(_ field: String?, length: Int) {
        guard let field, let ranges = Self.ranges(field) else {
            self = .whole
            return
        }
        let parts = ranges.split(separator: "-", omittingEmptySubsequences: false)
        guard parts.count == 2, let first = Self.number(parts[0]), let last = Self.number(parts[1]) else {
            self = .whole
            return
        }
        switch (first, last) {
        case (.none, .none), (.number, .number(..<0)): self = .whole
        case (.number(let start), .none):
            self = start < length ? .part(start..<length) : .unsatisfiable
        case (.number(let start), .number(let end)):
            guard start <= end else {
                self = .whole
                return
            }
            self = start < length ? .part(start..<min(end, length - 1) + 1) : .unsatisfiable
        case (.none, .number(let count)):
            self = count > 0 && length > 0 ? .part(max(0, length - count)..<length) : .unsatisfiable
        }
    }

    private enum Edge {
        case none
        case number(Int)
    }

    /// What stands behind `bytes=`; `nil` for another unit and for more than one range.
    private static func ranges(_ field: String) -> Substring? {
        guard let mark = field.firstIndex(of: "="), field[..<mark].lowercased() == "bytes" else { return nil }
        let ranges = field[field.index(after: mark)...]
        guard !ranges.contains(",") else { return nil }
        return Substring(ranges.filter { $0 != " " && $0 != "\t" })
    }

    /// - Returns: `nil` for what is no number. One beyond 18 digits lies behind the end of everything.
    private static func number(_ text: Substring) -> Edge? {
        guard !text.isEmpty else { return Edge.none }
        guard text.utf8.allSatisfy({ (0x30...0x39).contains($0) }) else { return nil }
        return .number(text.utf8.count <= 18 ? Int(text) ?? Int.max - 1 : Int.max - 1)
    }
}
