import Domain
import NIOCore
import TestSupport
import Testing

@testable import Gateway

@Suite("input of batches")
struct BatchInputTests {
    private static let form =
        "preamble\r\n--b0und\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n"
        + "--b0und\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a b.jsonl\"\r\nContent-Type: application/jsonl\r\n\r\n"
        + "one\r\n--b0und is not a boundary here\r\ntwo\r\n--b0un\r\n\r\n--b0und--\r\nepilogue"

    /// Reads a form in pieces of a size, and joins the pieces of each part.
    private func read(_ text: String, pieces size: Int) throws -> (parts: [[String]], isComplete: Bool) {
        var reader = try #require(
            MultipartReader(contentType: "Multipart/Form-Data; charset=utf-8; boundary=\"b0und\""))
        var parts: [[String]] = []
        var whole = ByteBuffer(string: text)
        while whole.readableBytes > 0 {
            guard var piece = whole.readSlice(length: min(size, whole.readableBytes)) else { break }
            for event in try reader.read(&piece) {
                switch event {
                case .part(let name, let filename): parts.append([name, filename ?? "", ""])
                case .content(let bytes): parts[parts.count - 1][2] += String(buffer: bytes)
                case .endOfPart, .end: break
                }
            }
        }
        return (parts, reader.isComplete)
    }

    @Test("a form is read the same however it is cut", arguments: [1, 2, 3, 7, 64, 10_000])
    func pieces(size: Int) throws {
        let text = Self.form.replacing("\r\n--b0und is not a boundary here", with: "\r\n--b0uND is none")
        let (parts, isComplete) = try read(text, pieces: size)
        #expect(isComplete)
        #expect(parts.count == 2)
        #expect(parts.first == ["purpose", "", "batch"])
        #expect(parts.last == ["file", "a b.jsonl", "one\r\n--b0uND is none\r\ntwo\r\n--b0un\r\n"])
    }

    @Test("a boundary with something behind it is no form", arguments: [1, 64, 10_000])
    func malformed(size: Int) {
        #expect(throws: MultipartReader.Malformed.self) { try read(Self.form, pieces: size) }
    }

    @Test("a form that stops before its end is not complete")
    func cutOff() throws {
        let text = Self.form.replacing("\r\n--b0und is not a boundary here", with: "")
        #expect(try !read(String(text.dropLast(20)), pieces: 64).isComplete)
    }

    @Test("a head without end, too many parts and other types are refused")
    func bounds() throws {
        #expect(throws: MultipartReader.Malformed.self) {
            try read("--b0und\r\n" + String(repeating: "x", count: 20_000), pieces: 1_000)
        }
        let part = "--b0und\r\ncontent-disposition: form-data; name=\"x\"\r\n\r\n1\r\n"
        #expect(throws: MultipartReader.Malformed.self) {
            try read(String(repeating: part, count: 40) + "--b0und--", pieces: 99)
        }
        for type in [
            "application/json", "multipart/form-data", "multipart/form-data; boundary=", "multipart/mixed; boundary=x",
        ] {
            #expect(MultipartReader(contentType: type) == nil)
        }
    }

    /// Cuts a text in pieces, and gives each line with the place behind it.
    private func cut(_ text: String, pieces size: Int, from place: InputPlace = InputPlace()) throws -> [(
        String, InputPlace
    )] {
        let bytes = Array(text.utf8)
        let pieces = stride(from: 0, to: bytes.count, by: size).map { Array(bytes[$0..<min($0 + size, bytes.count)]) }
        var cutter = BatchLineCutter(at: place, lineLimit: 100)
        var lines: [(String, InputPlace)] = []
        while pieces.indices.contains(Int(cutter.position)) {
            _ = try cutter.cut(pieces[Int(cutter.position)]) { cut in
                lines.append((String(buffer: cut.text), cut.next))
                return true
            }
        }
        if let last = cutter.last() { lines.append((String(buffer: last.text), last.next)) }
        return lines
    }

    @Test(
        "lines are the same however the file is cut, and reading goes on from behind any of them",
        arguments: [1, 2, 5, 9, 1_000])
    func lines(size: Int) throws {
        let text = "first\nsecond\n\nfourth, which is longer\nlast"
        let expected = ["first", "second", "", "fourth, which is longer", "last"]
        let lines = try cut(text, pieces: size)
        #expect(lines.map(\.0) == expected)
        for (number, line) in lines.enumerated() {
            #expect(try cut(text, pieces: size, from: line.1).map(\.0) == Array(expected.dropFirst(number + 1)))
        }
        #expect(try cut("a\nb\n", pieces: size).map(\.0) == ["a", "b"])
    }

    @Test("a line beyond the limit is refused, not kept", arguments: [1, 30, 1_000])
    func tooLong(size: Int) {
        #expect(throws: BatchLineError.self) { try cut(String(repeating: "x", count: 101) + "\n", pieces: size) }
        #expect(throws: BatchLineError.self) { try cut(String(repeating: "x", count: 300), pieces: size) }
    }

    @Test(
        "a custom_id is bounded in code points, as where it is kept",
        arguments: [(512, 0, true), (513, 0, false), (1, 511, true), (1, 512, false), (0, 0, false)])
    func customID(letters: Int, marks: Int, isTaken: Bool) {
        let id = String(repeating: "e", count: letters) + String(repeating: "\u{301}", count: marks)
        let line =
            #"{"custom_id":"\#(id)","method":"POST","url":"/v1/embeddings","body":{"model":"m"}}"#
        let read = try? BatchLine(ByteBuffer(string: line), number: 1, endpoint: "/v1/embeddings")
        #expect((read != nil) == isTaken)
    }

    @Test("the job of a line is the same each time, another for each line and batch, and in the order of the lines")
    func jobIDs() {
        var random = SeededRandom(seed: 3)
        func batch() -> ClaimedBatch {
            let now = Timestamp(microsecondsSince1970: 1_700_000_000_000_000)
            return ClaimedBatch(
                id: BatchID(at: now, using: &random), tenantID: TenantID(high: 1, low: 1), userID: nil,
                keyID: KeyID(high: 1, low: 1),
                endpoint: "/v1/embeddings", state: .inProgress, total: 1, readLines: 0, place: InputPlace(), skipped: 0,
                collected: 0,
                createdAt: now, expiresAt: now, claim: 1)
        }
        let one = batch()
        let ids = (0..<50_000).map { one.jobID(line: $0) }
        #expect(ids == (0..<50_000).map { one.jobID(line: $0) })
        #expect(ids == ids.sorted() && Set(ids).count == 50_000)
        #expect(batch().jobID(line: 0) != one.jobID(line: 0))
        #expect(ids.allSatisfy { $0.high >> 12 & 0xF == 7 && $0.low >> 62 == 2 })
    }
}
