/// What a `Content-Type` says (RFC 9110, section 8.3).
public enum MediaType {
    /// Whether it is `application/json`, with any parameters.
    public static func isJSON(_ type: String) -> Bool {
        type == "application/json" || media(type) == "application/json"
    }

    /// Whether it is `application/octet-stream`, with any parameters.
    public static func isBytes(_ type: String) -> Bool { media(type) == "application/octet-stream" }

    private static func media(_ type: String) -> String {
        let media = type.split(separator: ";", maxSplits: 1, omittingEmptySubsequences: false)[0]
        return media.lowercased().filter { $0 != " " && $0 != "\t" }
    }
}
