/// Names, labels and numbers of Prometheus's text exposition format 0.0.4.
///
/// Source: https://prometheus.io/docs/instrumenting/exposition_formats/ and …/docs/concepts/data_model/.
enum PrometheusNames {
    /// A metric's name: what is not `[a-zA-Z0-9_:]` becomes `_`, a digit in front gets one.
    static func metric(_ label: String) -> String { sanitized(label, allowsColon: true) }

    /// A label's name; no colon, and no `__` in front, which is reserved.
    static func label(_ name: String) -> String {
        let name = sanitized(name, allowsColon: false)
        return name.hasPrefix("__") ? "x" + name : name
    }

    /// Adds the unit or kind that the naming rules put last, unless it stands there already.
    static func suffixed(_ name: String, _ suffix: String) -> String { name.hasSuffix(suffix) ? name : name + suffix }

    /// Escapes a label's value: backslash, quotation mark and line feed. Longer than 200 characters it is cut.
    static func escaped(_ value: String) -> String {
        var text = ""
        for character in value.unicodeScalars.prefix(200) {
            switch character {
            case "\\": text += "\\\\"
            case "\"": text += "\\\""
            case "\n": text += "\\n"
            default: text.unicodeScalars.append(character)
            }
        }
        return text
    }

    /// Escapes a help text: backslash and line feed.
    static func escapedHelp(_ text: String) -> String {
        text.split(separator: "\\", omittingEmptySubsequences: false).joined(separator: "\\\\")
            .split(separator: "\n", omittingEmptySubsequences: false).joined(separator: "\\n")
    }

    /// `a="1",b="2"` in the order of the names; empty for no labels.
    static func rendered(_ labels: [(String, String)]) -> String {
        labels.map { (label($0.0), escaped($0.1)) }.sorted { $0.0 < $1.0 }.map { "\($0.0)=\"\($0.1)\"" }.joined(
            separator: ",")
    }

    /// A float as Go reads it.
    static func number(_ value: Double) -> String {
        if value.isNaN { return "NaN" }
        if value.isInfinite { return value < 0 ? "-Inf" : "+Inf" }
        if let whole = Int64(exactly: value) { return String(whole) }
        return "\(value)"
    }

    /// Nanoseconds as decimal seconds, exactly.
    static func seconds(nanoseconds: Int64) -> String {
        let magnitude = nanoseconds.magnitude
        let whole = magnitude / 1_000_000_000
        var fraction = String(magnitude % 1_000_000_000)
        fraction = String(repeating: "0", count: 9 - fraction.count) + fraction
        while fraction.hasSuffix("0") { fraction.removeLast() }
        return (nanoseconds < 0 ? "-" : "") + "\(whole)" + (fraction.isEmpty ? "" : "." + fraction)
    }

    private static func sanitized(_ text: String, allowsColon: Bool) -> String {
        var name = ""
        for byte in text.utf8 {
            switch byte {
            case 0x41...0x5A, 0x61...0x7A, UInt8(ascii: "_"): name.append(Character(Unicode.Scalar(byte)))
            case 0x30...0x39:
                if name.isEmpty { name = "_" }
                name.append(Character(Unicode.Scalar(byte)))
            case UInt8(ascii: ":") where allowsColon: name.append(":")
            default: name.append("_")
            }
        }
        return name.isEmpty ? "_" : name
    }
}
