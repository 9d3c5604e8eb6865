internal import Domain
internal import NIOCore

/// An answer that is no text: an image, sound, tensors. On the native surface it goes to the caller as it is; what it cost stands in its head.
enum BinaryAnswer {
    /// Besides all images and sounds. What is not in the list is read as JSON, and is no answer if it is none.
    private static let types: Set<String> = [
        "application/octet-stream", "application/x-npy", "application/x-npz", "application/vnd.apache.arrow.stream",
        "application/vnd.safetensors", "application/x-protobuf",
    ]
    private static let families = ["image/", "audio/"]

    static func isOne(_ answer: WorkerAnswer, to request: InferenceRequest) -> Bool {
        guard case .predict = request, let type = answer.contentType, type != "application/json" else { return false }
        return mediaType(type) != nil
    }

    /// - Returns: `nil` for one whose usage cannot be read: it could not be billed.
    static func read(_ answer: WorkerAnswer) -> WorkerReading? {
        guard let usage = answer.headUsage, let type = answer.contentType.flatMap(mediaType) else { return nil }
        return WorkerReading(
            prediction: answer.body, probabilities: nil, version: nil, inputTokens: usage.inputTokens,
            cachedInputTokens: usage.cachedInputTokens, outputTokens: usage.outputTokens, mediaType: type)
    }

    /// The type without its parameters, in lower case; `nil` for one that is not passed on.
    static func mediaType(_ contentType: String) -> String? {
        let name = contentType.prefix { $0 != ";" }.lowercased().filter { $0 != " " && $0 != "\t" }
        guard (1...100).contains(name.utf8.count), name.utf8.allSatisfy(isNameByte),
            name.utf8.filter({ $0 == UInt8(ascii: "/") }).count == 1, name.last != "/"
        else { return nil }
        return types.contains(name) || families.contains(where: name.hasPrefix) ? name : nil
    }

    /// Of a type or subtype (RFC 6838, section 4.2), or the slash between them.
    private static func isNameByte(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "0")...UInt8(ascii: "9"): true
        case UInt8(ascii: "."), UInt8(ascii: "+"), UInt8(ascii: "-"), UInt8(ascii: "_"), UInt8(ascii: "/"): true
        default: false
        }
    }
}
