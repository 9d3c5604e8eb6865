/// What a `Content-Type` says (RFC 9110, section 8.3).
public enum MediaType {
    /// Whether it is `application/json`, with any parameters.
    public static func isJSON(_ type: String) -> Bool {
        if type == "application/json" { return true }
        let media = type.split(separator: ";", maxSplits: 1, omittingEmptySubsequences: false)[0]
        return media.lowercased().filter { $0 != " " && $0 != "\t" } == "application/json"
    }
}
