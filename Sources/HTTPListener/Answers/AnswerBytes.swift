public import Domain
public import NIOCore

// What answers are written with, where an encoder would cost more than the rest of them. The short ones are inlinable: a prediction's
// answer calls them some thirty times.

extension ByteBuffer {
    /// `req_` and the UUID.
    @inlinable
    public mutating func writePublicID(_ id: RequestID) {
        writeStaticString("req_")
        writeIdentifier(id)
    }

    /// The UUID in its usual form.
    @inlinable
    public mutating func writeIdentifier<Kind>(_ id: Identifier<Kind>) {
        writeWithUnsafeMutableBytes(minimumWritableBytes: 36) { pointer in
            var next = 0
            id.writeASCII { byte in
                pointer[next] = byte
                next += 1
            }
            return next
        }
    }

    /// The number in decimal digits.
    @inlinable
    public mutating func writeDecimal(_ value: Int64) {
        writeWithUnsafeMutableBytes(minimumWritableBytes: 20) { pointer in
            var digits = value.magnitude
            var count = 0
            repeat {
                pointer[count] = 0x30 + UInt8(truncatingIfNeeded: digits % 10)
                digits /= 10
                count += 1
            } while digits > 0
            if value < 0 {
                pointer[count] = UInt8(ascii: "-")
                count += 1
            }
            var written = UnsafeMutableRawBufferPointer(rebasing: pointer[0..<count])
            written.reverse()
            return count
        }
    }

    /// A string with its quotes; escapes what RFC 8259 says must be escaped.
    public mutating func writeJSONString(_ text: String) {
        writeStaticString("\"")
        var start = text.utf8.startIndex
        for index in text.utf8.indices {
            let byte = text.utf8[index]
            guard byte < 0x20 || byte == UInt8(ascii: "\"") || byte == UInt8(ascii: "\\") else { continue }
            writeSubstring(text[start..<index])
            if byte < 0x20 {
                writeStaticString("\\u00")
                writeInteger(byte >> 4 == 0 ? UInt8(0x30) : UInt8(0x31))
                let low = byte & 15
                writeInteger(low < 10 ? 0x30 + low : 0x61 + low - 10)
            } else {
                writeStaticString("\\")
                writeInteger(byte)
            }
            start = text.utf8.index(after: index)
        }
        writeSubstring(text[start...])
        writeStaticString("\"")
    }

    /// A duration as the OpenAI API writes it: `1s`, `6m0s`, `26h0m5s`.
    public mutating func writeDuration(seconds: Int64) {
        let (hours, minutes, rest) = (seconds / 3_600, seconds / 60 % 60, seconds % 60)
        if hours > 0 {
            writeDecimal(hours)
            writeStaticString("h")
        }
        if hours > 0 || minutes > 0 {
            writeDecimal(minutes)
            writeStaticString("m")
        }
        writeDecimal(rest)
        writeStaticString("s")
    }

    /// The start of an answer that is written past the encoder: what is given, and the fields that every answer has. More fields or an empty
    /// line must follow.
    /// - Parameters:
    ///   - start: status line and first fields, each with its line end.
    ///   - bodyByteCount: `nil` for a body that is sent in chunks.
    ///   - date: the text of the `Date` field (RFC 9110, section 6.6.1).
    public mutating func writeAnswerStart(
        _ start: String, bodyByteCount: Int?, requestID: RequestID, keepsAlive: Bool, date: [UInt8]
    ) {
        writeString(start)
        if let bodyByteCount {
            writeStaticString("content-length: ")
            writeDecimal(Int64(bodyByteCount))
        } else {
            writeStaticString("transfer-encoding: chunked")
        }
        writeStaticString("\r\ndate: ")
        writeBytes(date)
        writeStaticString("\r\ncache-control: no-store\r\nx-content-type-options: nosniff\r\nx-request-id: ")
        writePublicID(requestID)
        writeStaticString(keepsAlive ? "\r\n" : "\r\nconnection: close\r\n")
    }
}

/// See ``NIOCore/ByteBuffer/writeDuration(seconds:)``.
func durationText(seconds: Int64) -> String {
    var buffer = ByteBuffer()
    buffer.writeDuration(seconds: seconds)
    return String(buffer: buffer)
}

/// The reason phrases of the statuses that are answered here.
public func reasonPhrase(_ status: Int) -> String {
    switch status {
    case 200: "OK"
    case 202: "Accepted"
    case 400: "Bad Request"
    case 401: "Unauthorized"
    case 402: "Payment Required"
    case 403: "Forbidden"
    case 404: "Not Found"
    case 499: "Client Closed Request"
    case 405: "Method Not Allowed"
    case 408: "Request Timeout"
    case 409: "Conflict"
    case 410: "Gone"
    case 413: "Content Too Large"
    case 414: "URI Too Long"
    case 415: "Unsupported Media Type"
    case 416: "Range Not Satisfiable"
    case 417: "Expectation Failed"
    case 422: "Unprocessable Content"
    case 429: "Too Many Requests"
    case 431: "Request Header Fields Too Large"
    case 502: "Bad Gateway"
    case 503: "Service Unavailable"
    case 504: "Gateway Timeout"
    case 505: "HTTP Version Not Supported"
    default: "Internal Server Error"
    }
}
