internal import Domain

/// A place in the rows of an answer, as callers hand it back.
///
/// It is bound to the question by a check, so that a page of one question is not taken for one of another. It is no secret: whoever makes one up sees
/// another part of what it may see anyway.
public enum PageToken {
    /// No answer has more rows than this. A token that names a place behind it was made up, and adding a page's length to it must not overflow.
    public static let offsetLimit = 10_000_000

    /// - Parameter subject: the question, with whoever asks.
    public static func text(_ offset: Int, of subject: String) -> String {
        "page_\(String(offset, radix: 36))_\(String(check(offset, subject), radix: 36))"
    }

    /// - Returns: `nil` for anything that is no page of this question.
    public static func offset(_ token: String, of subject: String) -> Int? {
        let parts = token.split(separator: "_", omittingEmptySubsequences: false)
        guard parts.count == 3, let offset = Int(parts[1], radix: 36), (1...offsetLimit).contains(offset),
            text(offset, of: subject) == token
        else { return nil }
        return offset
    }

    private static func check(_ offset: Int, _ subject: String) -> UInt64 {
        var hash = StableHash(key0: 0x7265_706F_7274_2D70, key1: 0x6167_652D_6B65_7931)
        hash.combine("\(offset) \(subject)".utf8)
        return hash.value
    }
}
