internal import NIOCore

/// Takes server-sent events apart as their bytes come (https://html.spec.whatwg.org/multipage/server-sent-events.html). Only the data of an
/// event is of interest here; comments, names and identifiers are passed over.
struct ServerSentEvents {
    enum Failure: Error { case tooLarge }

    /// Of one event.
    let byteLimit: Int
    /// Bytes behind the last whole line.
    private var rest = ByteBuffer()
    /// How much of `rest` is known to hold no end of a line.
    private var searched = 0
    private var data = ByteBuffer()
    private var hasData = false

    init(byteLimit: Int) { self.byteLimit = byteLimit }

    /// - Returns: the data of each event that is whole now.
    mutating func take(_ bytes: ByteBuffer) throws(Failure) -> [ByteBuffer] {
        rest.writeImmutableBuffer(bytes)
        var events: [ByteBuffer] = []
        while let line = nextLine() {
            if line.readableBytes == 0 {
                if hasData { events.append(data) }
                data = ByteBuffer()
                hasData = false
            } else {
                take(line: line)
            }
            guard data.readableBytes <= byteLimit else { throw .tooLarge }
        }
        guard rest.readableBytes <= byteLimit else { throw .tooLarge }
        rest.discardReadBytes()
        return events
    }

    private mutating func nextLine() -> ByteBuffer? {
        let length = rest.withUnsafeReadableBytes { bytes -> Int? in
            var index = searched
            while index < bytes.count {
                if bytes[index] == 0x0A { return index }
                index += 1
            }
            return nil
        }
        guard let length, var line = rest.readSlice(length: length) else {
            searched = rest.readableBytes
            return nil
        }
        rest.moveReaderIndex(forwardBy: 1)
        searched = 0
        if line.withUnsafeReadableBytes({ $0.last }) == 0x0D { line = line.getSlice(at: line.readerIndex, length: length - 1) ?? line }
        return line
    }

    private mutating func take(line: ByteBuffer) {
        let isData = line.withUnsafeReadableBytes { Bytes.begin($0[...], with: "data:") }
        guard isData else { return }
        var value = line
        value.moveReaderIndex(forwardBy: 5)
        if value.withUnsafeReadableBytes({ $0.first }) == 0x20 { value.moveReaderIndex(forwardBy: 1) }
        if hasData { data.writeStaticString("\n") }
        hasData = true
        data.writeImmutableBuffer(value)
    }
}
