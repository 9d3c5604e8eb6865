import HTTPListener
import Testing

@Suite("byte ranges")
struct ByteRangeTests {
    @Test(
        "a range is a part of the whole, the whole, or outside of it",
        arguments: [
            ("bytes=0-0", ByteRange.part(0..<1)), ("bytes=0-99", .part(0..<10)), ("bytes=3-", .part(3..<10)),
            ("BYTES=3-5", .part(3..<6)), ("bytes= 3-5 ", .part(3..<6)), ("bytes=-3", .part(7..<10)),
            ("bytes=-300", .part(0..<10)), ("bytes=9-9", .part(9..<10)),
            ("bytes=10-", .unsatisfiable), ("bytes=10-20", .unsatisfiable), ("bytes=-0", .unsatisfiable),
            ("bytes=99999999999999999999-", .unsatisfiable),
            ("bytes=5-3", .whole), ("bytes=-", .whole), ("bytes=", .whole), ("bytes=a-b", .whole), ("0-5", .whole),
            ("bytes=0-1,3-4", .whole), ("lines=0-1", .whole), ("bytes=0-1-2", .whole), ("bytes=+1-2", .whole),
        ])
    func range(field: String, expected: ByteRange) {
        #expect(ByteRange(field, length: 10) == expected)
    }

    @Test("nothing of nothing can be asked for")
    func empty() {
        #expect(ByteRange(nil, length: 0) == .whole)
        #expect(ByteRange("bytes=0-", length: 0) == .unsatisfiable)
        #expect(ByteRange("bytes=-1", length: 0) == .unsatisfiable)
    }
}
