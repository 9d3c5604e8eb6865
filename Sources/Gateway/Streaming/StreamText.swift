internal import Domain
internal import HTTPListener
internal import NIOCore

/// The text of a streamed answer, put together for those whose answers are kept. Calls of tools are left out.
struct StreamText {
    private struct Choice {
        var text = ""
        var finishReason: String?
    }

    /// More is not kept; an answer of the largest models fits.
    private static let byteLimit = 1_048_576

    private var choices: [Int64: Choice] = [:]
    private var byteCount = 0

    mutating func take(_ values: JSONTape.Value, _ tape: JSONTape) {
        tape.forEachElement(of: values) { choice in
            let index = tape.member("index", of: choice).flatMap { tape.int64($0) } ?? 0
            guard choices[index] != nil || choices.count < Int(OpenAIRequest.choiceLimit) else { return }
            let piece =
                tape.member("text", of: choice)
                ?? tape.member("delta", of: choice).flatMap { tape.member("content", of: $0) }
            if let piece, let text = tape.string(piece), byteCount + text.utf8.count <= Self.byteLimit {
                choices[index, default: Choice()].text += text
                byteCount += text.utf8.count
            }
            if let reason = tape.member("finish_reason", of: choice).flatMap({ tape.string($0) }) {
                choices[index, default: Choice()].finishReason = String(reason.prefix(64))
            }
        }
    }

    func answer(surface: Surface, identity: String, model: String, usage: Usage) -> ByteBuffer {
        var body = ByteBuffer()
        let object = surface == .completions ? "text_completion" : "chat.completion"
        body.writeString("{\(identity),\"object\":\"\(object)\",\"model\":\"\(model)\",\"choices\":[")
        for (position, entry) in choices.sorted(by: { $0.key < $1.key }).enumerated() {
            body.writeString("\(position == 0 ? "" : ","){\"index\":\(entry.key),")
            body.writeStaticString(
                surface == .completions ? "\"text\":" : "\"message\":{\"role\":\"assistant\",\"content\":")
            body.writeJSONString(entry.value.text)
            body.writeStaticString(surface == .completions ? ",\"finish_reason\":" : "},\"finish_reason\":")
            if let reason = entry.value.finishReason {
                body.writeJSONString(reason)
            } else {
                body.writeStaticString("null")
            }
            body.writeStaticString("}")
        }
        body.writeString("],\"usage\":\(usage.openAIText)}")
        return body
    }
}
