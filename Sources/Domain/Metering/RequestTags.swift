/// What a caller says a request is for, as `team=search,env=prod`: usage is told by these pairs, too.
///
/// A key is of 1 to 32 of `a-z 0-9 _ . -` and begins with a letter or digit; a value is of 1 to 64 of `A-Z a-z 0-9 _ . : / @ + -`. There are at most
/// sixteen, each key once. Neither a comma nor an equals sign can be in them, so that the text can be cut at those.
public struct RequestTags: Hashable, Sendable {
    public static let countLimit = 16
    public static let keyLimit = 32
    public static let valueLimit = 64

    /// In the order of the keys, divided by commas.
    public let text: String

    /// Reads the values of the field `x-weir-tags`; several fields are one list.
    /// - Throws: `invalid_tags`.
    public init(fields: [String]) throws(Refusal) {
        var pairs: [(key: Substring, pair: Substring)] = []
        for field in fields {
            for part in field.split(separator: ",", omittingEmptySubsequences: false) {
                guard pairs.count < Self.countLimit else {
                    throw Self.refusal("has more than \(Self.countLimit) pairs")
                }
                let pair = part.trimmed
                guard let mark = pair.firstIndex(of: "="), Self.isKey(pair[..<mark].utf8),
                    Self.isValue(pair[pair.index(after: mark)...].utf8)
                else { throw Self.refusal("has a part that is no pair of the form key=value") }
                pairs.append((pair[..<mark], pair))
            }
        }
        pairs.sort { $0.key < $1.key }
        for (first, second) in zip(pairs, pairs.dropFirst()) where first.key == second.key {
            throw Self.refusal("has the key \(first.key) twice")
        }
        text = pairs.map { String($0.pair) }.joined(separator: ",")
    }

    private static func isKey(_ bytes: Substring.UTF8View) -> Bool {
        guard (1...keyLimit).contains(bytes.count), let first = bytes.first, isLetterOrDigit(first) else {
            return false
        }
        return bytes.allSatisfy { isLetterOrDigit($0) || $0 == 0x5F || $0 == 0x2E || $0 == 0x2D }
    }

    private static func isLetterOrDigit(_ byte: UInt8) -> Bool {
        (0x61...0x7A).contains(byte) || (0x30...0x39).contains(byte)
    }

    private static func isValue(_ bytes: Substring.UTF8View) -> Bool {
        guard (1...valueLimit).contains(bytes.count) else { return false }
        return bytes.allSatisfy { byte in
            // + - . / and 0 to 9 and :, then @ and A to Z.
            switch byte {
            case 0x2B, 0x2D...0x3A, 0x40...0x5A, 0x5F, 0x61...0x7A: true
            default: false
            }
        }
    }

    private static func refusal(_ problem: String) -> Refusal {
        Refusal(
            .invalidTags, "The field x-weir-tags \(problem).",
            errors: [
                .init(
                    location: "x-weir-tags", message: problem,
                    fix:
                        "Send up to \(countLimit) pairs as team=search,env=prod: keys of up to \(keyLimit) of a-z 0-9 _ . -, values of up to \(valueLimit) of A-Z a-z 0-9 _ . : / @ + -, each key once."
                )
            ])
    }
}

extension Substring {
    fileprivate var trimmed: Substring {
        var part = self
        while let first = part.first, first == " " || first == "\t" { part.removeFirst() }
        while let last = part.last, last == " " || last == "\t" { part.removeLast() }
        return part
    }
}
