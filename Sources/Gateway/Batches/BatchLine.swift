internal import Domain
internal import NIOCore

/// What is wrong with a line of a batch's input.
struct BatchLineError: Error, Codable, Equatable {
    let code: String
    let message: String
    let param: String?
    /// From 1 on; `nil` where the file as a whole is the matter.
    let line: Int32?
}

/// One line of a batch's input: `{"custom_id", "method", "url", "body"}`.
struct BatchLine {
    let customID: String
    let model: String
    /// The body as it stands in the line.
    let body: ByteBuffer

    /// - Throws: what is wrong with it.
    init(_ text: ByteBuffer, number: Int32, endpoint: String) throws(BatchLineError) {
        func wrong(_ code: String, _ message: String, _ param: String? = nil) -> BatchLineError {
            BatchLineError(code: code, message: message, param: param, line: number)
        }
        let tape: JSONTape
        do throws(JSONTape.Failure) {
            tape = try JSONTape(text)
        } catch {
            throw wrong("invalid_json_line", "This line is not parseable as valid JSON.")
        }
        guard tape.kind(tape.root) == .object else {
            throw wrong("invalid_json_line", "This line is not a JSON object.")
        }
        guard let idValue = tape.member("custom_id", of: tape.root) else {
            throw wrong("missing_required_parameter", "Missing required parameter: 'custom_id'.", "custom_id")
        }
        // In code points, as the database counts: a Character may be of any number of them.
        guard let customID = tape.string(idValue), (1...512).contains(customID.unicodeScalars.count),
            !customID.unicodeScalars.contains("\0")
        else {
            throw wrong("invalid_value", "custom_id must be a string of 1 to 512 characters.", "custom_id")
        }
        guard let method = tape.member("method", of: tape.root) else {
            throw wrong("missing_required_parameter", "Missing required parameter: 'method'.", "method")
        }
        guard tape.string(method) == "POST" else { throw wrong("invalid_method", "The method must be POST.", "method") }
        guard let url = tape.member("url", of: tape.root) else {
            throw wrong("missing_required_parameter", "Missing required parameter: 'url'.", "url")
        }
        guard tape.string(url) == endpoint else {
            throw wrong("mismatched_url", "The url must be \(endpoint), the endpoint of the batch.", "url")
        }
        guard let body = tape.member("body", of: tape.root), tape.kind(body) == .object else {
            throw wrong("missing_required_parameter", "Missing required parameter: 'body'.", "body")
        }
        guard let model = tape.member("model", of: body).flatMap({ tape.string($0) }), ModelName.isValid(model.utf8)
        else {
            throw wrong("missing_required_parameter", "Missing required parameter: 'model'.", "body.model")
        }
        if let stream = tape.member("stream", of: body), tape.kind(stream) == .true {
            throw wrong("invalid_value", "A request of a batch cannot be streamed.", "body.stream")
        }
        self.customID = customID
        self.model = model
        self.body = tape.slice(body)
    }
}

/// Cuts a file that comes in pieces into lines. Keeps what is left of one piece for the next, up to the longest line that is taken.
struct BatchLineCutter {
    struct Cut {
        /// Without its end.
        let text: ByteBuffer
        /// Where the next line begins.
        let next: InputPlace
    }

    private let limit: Int
    private var rest = ByteBuffer()
    /// The place of the first byte of `piece`.
    private var place: InputPlace

    init(at place: InputPlace, lineLimit: Int) {
        self.place = place
        limit = lineLimit
    }

    /// Which piece is needed next.
    var position: Int32 { place.position }

    /// Takes the next piece and calls `body` with each line that ends in it, until it says that it has enough.
    /// - Returns: whether the piece was read to its end.
    mutating func cut(_ piece: [UInt8], _ body: (Cut) throws(BatchLineError) -> Bool) throws(BatchLineError) -> Bool {
        var start = Int(place.offset)
        while start < piece.count {
            guard let end = piece[start...].firstIndex(of: 0x0A) else { break }
            var line = rest
            rest = ByteBuffer()
            guard line.readableBytes + end - start <= limit else { throw tooLong }
            line.writeBytes(piece[start..<end])
            start = end + 1
            place.offset = Int32(start)
            guard try body(Cut(text: line, next: place)) else { return false }
        }
        guard rest.readableBytes + max(0, piece.count - start) <= limit else { throw tooLong }
        if start < piece.count { rest.writeBytes(piece[start...]) }
        place = InputPlace(position: place.position + 1, offset: 0)
        return true
    }

    /// The last line, where the file does not end with a line end.
    mutating func last() -> Cut? {
        guard rest.readableBytes > 0 else { return nil }
        defer { rest = ByteBuffer() }
        return Cut(text: rest, next: place)
    }

    private var tooLong: BatchLineError {
        BatchLineError(code: "line_too_long", message: "A line has more than \(limit) bytes.", param: nil, line: nil)
    }
}
