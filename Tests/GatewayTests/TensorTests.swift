import Domain
import NIOCore
import Testing

@testable import Gateway

@Suite("Tensors") struct TensorTests {
    /// One input as a request has it.
    private func request(
        _ datatype: TensorDatatype, _ shape: String, data: String
    ) throws(Refusal) -> InferRequest {
        try infer(#"{"inputs":[{"name":"x","shape":\#(shape),"datatype":"\#(datatype.rawValue)","data":\#(data)}]}"#)
    }

    private func isAccepted(_ datatype: TensorDatatype, _ shape: String, _ data: String) -> Bool {
        (try? request(datatype, shape, data: data)) != nil
    }

    @Test(
        "integers are held to their type's range, exactly",
        arguments: [
            (.uint8, "0", "255", ["-1", "256"]), (.uint16, "0", "65535", ["-1", "65536"]),
            (.uint32, "0", "4294967295", ["-1", "4294967296"]),
            (.uint64, "0", "18446744073709551615", ["-1", "18446744073709551616", "100000000000000000000"]),
            (.int8, "-128", "127", ["-129", "128"]), (.int16, "-32768", "32767", ["-32769", "32768"]),
            (.int32, "-2147483648", "2147483647", ["-2147483649", "2147483648"]),
            (.int64, "-9223372036854775808", "9223372036854775807", ["-9223372036854775809", "9223372036854775808"]),
        ] as [(TensorDatatype, String, String, [String])])
    func integerRanges(datatype: TensorDatatype, least: String, greatest: String, beyond: [String]) throws {
        #expect(isAccepted(datatype, "[2]", "[\(least),\(greatest)]"))
        for number in beyond + ["1.0", "1e2", "0.5", "true", "\"1\"", "null", "[1]", "{}"] {
            #expect(!isAccepted(datatype, "[1]", "[\(number)]"), "\(number)")
        }
        // There and back through the binary form nothing is lost, also beyond the 53 bits of an FP64.
        let request = try request(datatype, "[2]", data: "[\(least),\(greatest)]")
        #expect(try throughBinary(request) == "[\(least),\(greatest)]")
    }

    @Test func wholeNumbersBeyondFP64AreNotRounded() throws {
        let data = "[9007199254740993,-9007199254740993,9223372036854775807]"
        #expect(try throughBinary(request(.int64, "[3]", data: data)) == data)
        #expect(try throughBinary(request(.uint64, "[1]", data: "[18446744073709551615]")) == "[18446744073709551615]")
    }

    @Test(
        "floating-point numbers that their type cannot hold are refused",
        arguments: [
            (.float16, ["65504", "-65504", "65519.99", "6e-8", "1e-30", "0.1"], ["65520", "-1e5", "1e300"]),
            (.float32, ["3.4028234e38", "-3.4e38", "1e-46", "16777217"], ["3.5e38", "-1e39", "1e308"]),
            (.float64, ["1.7976931348623157e308", "5e-324", "1e-400", "-0.0"], []),
        ] as [(TensorDatatype, [String], [String])])
    func floatRanges(datatype: TensorDatatype, good: [String], bad: [String]) {
        for number in good { #expect(isAccepted(datatype, "[1]", "[\(number)]"), "\(number)") }
        for number in bad + ["true", "\"1\"", "null"] {
            #expect(!isAccepted(datatype, "[1]", "[\(number)]"), "\(number)")
        }
    }

    @Test(arguments: TensorDatatype.allCases)
    func numbersThatAreNotJSONAreRefused(datatype: TensorDatatype) {
        for text in ["NaN", "Infinity", "-Infinity", "1e999", "nan", "+1", "01", ".5", "1."] {
            #expect(!isAccepted(datatype, "[1]", "[\(text)]"), "\(text)")
        }
    }

    @Test func truthAndTextHaveTheirOwnElements() throws {
        #expect(try throughBinary(request(.bool, "[3]", data: "[true, false,true]")) == "[true,false,true]")
        #expect(!isAccepted(.bool, "[1]", "[1]"))
        #expect(!isAccepted(.bool, "[1]", "[\"true\"]"))
        #expect(try throughBinary(request(.bytes, "[3]", data: #"["","é","a\"\\\n"]"#)) == #"["","é","a\"\\\u000a"]"#)
        #expect(!isAccepted(.bytes, "[1]", "[1]"))
        #expect(!isAccepted(.bytes, "[1]", #"["\u0000"]"#))
    }

    @Test(
        "data is flat, or nested just as the shape",
        arguments: [
            ("[2,3]", "[1,2,3,4,5,6]", true), ("[2,3]", "[[1,2,3],[4,5,6]]", true), ("[]", "[1]", true),
            ("[1]", "[1]", true), ("[1,1,1]", "[[[1]]]", true), ("[0]", "[]", true), ("[0,4]", "[]", true),
            ("[2,0]", "[[],[]]", true), ("[6]", "[1,2,3,4,5,6]", true),
            ("[2,3]", "[1,2,3,4,5]", false), ("[2,3]", "[1,2,3,4,5,6,7]", false),
            ("[2,3]", "[[1,2,3],[4,5]]", false), ("[2,3]", "[[1,2],[3,4],[5,6]]", false),
            ("[2,3]", "[[1,2,3],4,5,6]", false), ("[2,3]", "[1,[2,3],4,5,6]", false),
            ("[2,3]", "[[1,2,3],[4,5,6],[7,8,9]]", false), ("[2,3]", "[[[1,2,3],[4,5,6]]]", false),
            ("[6]", "[[1,2,3],[4,5,6]]", false), ("[]", "1", false), ("[1]", "1", false), ("[1]", "{}", false),
            ("[1]", "null", false), ("[2,2]", "[[1,2],[[3],4]]", false), ("[0]", "[1]", false),
        ] as [(String, String, Bool)])
    func nesting(shape: String, data: String, isAccepted: Bool) {
        #expect(self.isAccepted(.int32, shape, data) == isAccepted)
    }

    @Test(
        "shapes are whole numbers whose product can be counted",
        arguments: [
            "[-1]", "[1.0]", "[\"1\"]", "[9223372036854775807,2]", "[9223372036854775808]", "[4294967296,4294967296]",
            "[0,9223372036854775807,2]", "[9223372036854775807,2,0]", "null", "{}", "3", "[null]",
            "[" + Array(repeating: "1", count: 33).joined(separator: ",") + "]",
        ])
    func shapes(shape: String) {
        #expect(!isAccepted(.int32, shape, "[1]"))
        #expect(!isAccepted(.int32, shape, "[]"))
    }

    @Test func everyHalfSurvives() throws {
        for pattern in UInt16.min...UInt16.max where pattern & 0x7C00 != 0x7C00 {
            // An expectation for each would take longer than everything else here.
            if HalfFloat.bits(HalfFloat.value(pattern)) != pattern { Issue.record("\(pattern)") }
        }
        #expect(HalfFloat.value(0x7C00) == .infinity)
        #expect(HalfFloat.value(0xFC01).isNaN)
        #expect(HalfFloat.bits(.nan) == nil)
        #expect(HalfFloat.bits(65_520) == nil)
        #expect(HalfFloat.bits(65_519.999) == 0x7BFF)
    }

    #if !(os(macOS) && arch(x86_64))
        /// The compiler's own conversion is the reference.
        @Test func halvesAreRoundedToTheNearest() {
            var random = SplitMix(seed: 20_261_121)
            for _ in 0..<200_000 {
                let value =
                    Double(sign: .plus, exponent: Int.random(in: -27...16, using: &random), significand: 1)
                    * Double.random(in: -2...2, using: &random)
                let reference = Float16(value)
                if HalfFloat.bits(value) != (reference.isFinite ? reference.bitPattern : nil) {
                    Issue.record("\(value)")
                }
            }
            // Ties go to the even neighbour.
            for pattern in UInt16(0)..<0x7BFF {
                let middle = (HalfFloat.value(pattern) + HalfFloat.value(pattern + 1)) / 2
                if HalfFloat.bits(middle) != (pattern & 1 == 0 ? pattern : pattern + 1) { Issue.record("\(middle)") }
            }
        }
    #endif

    @Test(
        "binary data that is not what the head says is refused",
        arguments: [
            (.int32, "[2]", [1, 0, 0, 0]), (.int32, "[1]", [1, 0, 0, 0, 0]), (.int32, "[1]", []),
            (.bool, "[1]", [2]), (.float16, "[1]", [0, 0x7C]), (.float16, "[1]", [1, 0xFE]),
            (.float32, "[1]", [0, 0, 0x80, 0x7F]), (.float32, "[1]", [0, 0, 0xC0, 0xFF]),
            (.float64, "[1]", [0, 0, 0, 0, 0, 0, 0xF0, 0x7F]), (.float64, "[1]", [0, 0, 0, 0, 0, 0, 0xF8, 0xFF]),
            (.bytes, "[1]", [1, 0, 0]), (.bytes, "[1]", [2, 0, 0, 0, 0x61]), (.bytes, "[1]", [1, 0, 0, 0, 0xFF]),
            (.bytes, "[1]", [1, 0, 0, 0, 0]), (.bytes, "[2]", [1, 0, 0, 0, 0x61]),
            (.bytes, "[1]", [0xFF, 0xFF, 0xFF, 0xFF]), (.bytes, "[0]", [0, 0, 0, 0]),
            (.int64, "[2305843009213693952]", []),
        ] as [(TensorDatatype, String, [UInt8])])
    func badBinary(datatype: TensorDatatype, shape: String, bytes: [UInt8]) {
        #expect((try? binaryRequest(datatype, shape, bytes)) == nil)
    }

    @Test("what is random survives every way", arguments: TensorDatatype.allCases)
    func property(datatype: TensorDatatype) throws {
        var random = SplitMix(seed: UInt64(datatype.rawValue.utf8.reduce(7) { $0 * 31 + UInt64($1) }))
        for _ in 0..<300 {
            let sizes = (0..<Int.random(in: 0...3, using: &random)).map { _ in Int.random(in: 0...4, using: &random) }
            let count = sizes.reduce(1, *)
            let bytes = (0..<count).flatMap { _ in randomElement(datatype, &random) }
            let shape = "[\(sizes.map(String.init).joined(separator: ","))]"
            let binary = try binaryRequest(datatype, shape, bytes)
            var flat = ByteBuffer()
            binary.inputs[0].writeJSON(binary.tape, to: &flat)
            let values = try JSONTape(flat)
            // Flat and nested, each read again and turned into bytes again.
            let elements = values.elements(of: values.root).map { String(buffer: values.slice($0)) }
            for text in [String(buffer: flat), nested(elements[...], sizes[...])] {
                let again = try request(datatype, shape, data: text)
                var back = ByteBuffer()
                again.inputs[0].writeBinary(again.tape, to: &back)
                #expect(Array(back.readableBytesView) == bytes, "\(shape) \(text)")
                #expect(again.inputs[0].binaryByteCount(again.tape) == bytes.count)
                #expect(again.elementCount == Int64(count))
            }
        }
    }

    @Test("bytes at random are refused or survive, and never more", arguments: TensorDatatype.allCases)
    func fuzz(datatype: TensorDatatype) throws {
        var random = SplitMix(seed: 99)
        for _ in 0..<2_000 {
            let bytes = (0..<Int.random(in: 0...24, using: &random)).map { _ in
                Bool.random(using: &random)
                    ? UInt8.random(in: 0...3, using: &random) : UInt8.random(in: 0...255, using: &random)
            }
            let count = datatype.byteWidth.map { bytes.count / $0 } ?? Int.random(in: 0...5, using: &random)
            guard let accepted = try? binaryRequest(datatype, "[\(count)]", bytes) else { continue }
            var json = ByteBuffer()
            accepted.inputs[0].writeJSON(accepted.tape, to: &json)
            #expect((try? JSONTape(json)) != nil)
        }
    }

    // MARK: help

    private func infer(_ text: String) throws(Refusal) -> InferRequest {
        try InferRequest(ByteBuffer(string: text), model: "m", version: nil, jsonByteCount: nil)
    }

    private func binaryRequest(_ datatype: TensorDatatype, _ shape: String, _ bytes: [UInt8]) throws -> InferRequest {
        let json =
            #"{"inputs":[{"name":"x","shape":\#(shape),"datatype":"\#(datatype.rawValue)","parameters":{"binary_data_size":\#(bytes.count)}}]}"#
        var body = ByteBuffer(string: json)
        body.writeBytes(bytes)
        return try InferRequest(body, model: "m", version: nil, jsonByteCount: json.utf8.count)
    }

    private func throughBinary(_ request: InferRequest) throws -> String {
        let input = request.inputs[0]
        var bytes = ByteBuffer()
        input.writeBinary(request.tape, to: &bytes)
        #expect(bytes.readableBytes == input.binaryByteCount(request.tape))
        let shape = "[\(input.shape.sizes.map(String.init).joined(separator: ","))]"
        let again = try binaryRequest(input.datatype, shape, Array(bytes.readableBytesView))
        var json = ByteBuffer()
        again.inputs[0].writeJSON(again.tape, to: &json)
        return String(buffer: json)
    }

    private func nested(_ elements: ArraySlice<String>, _ sizes: ArraySlice<Int>) -> String {
        guard sizes.count > 1, let size = sizes.first else { return "[\(elements.joined(separator: ","))]" }
        let width = sizes.dropFirst().reduce(1, *)
        let rows = (0..<size).map { row in
            nested(elements.dropFirst(row * width).prefix(width), sizes.dropFirst())
        }
        return "[\(rows.joined(separator: ","))]"
    }

    private func randomElement(_ datatype: TensorDatatype, _ random: inout SplitMix) -> [UInt8] {
        switch datatype {
        case .bool: return [UInt8.random(in: 0...1, using: &random)]
        case .bytes:
            let letters = ["a", "\"", "\\", "é", "\n", "😀", "\u{7F}", "/", " "]
            let text = (0..<Int.random(in: 0...5, using: &random)).map { _ in
                letters[Int.random(in: 0..<letters.count, using: &random)]
            }.joined()
            return [UInt8(text.utf8.count), 0, 0, 0] + Array(text.utf8)
        case .float16: return little(UInt16.random(in: 0...(.max), using: &random)) { $0 & 0x7C00 != 0x7C00 }
        case .float32: return little(UInt32.random(in: 0...(.max), using: &random)) { Float(bitPattern: $0).isFinite }
        case .float64: return little(UInt64.random(in: 0...(.max), using: &random)) { Double(bitPattern: $0).isFinite }
        default: return (0..<(datatype.byteWidth ?? 0)).map { _ in UInt8.random(in: 0...255, using: &random) }
        }
    }

    /// The bytes of a pattern; of zero where it is not usable.
    private func little<Pattern: FixedWidthInteger>(_ pattern: Pattern, _ isUsable: (Pattern) -> Bool) -> [UInt8] {
        withUnsafeBytes(of: (isUsable(pattern) ? pattern : 0).littleEndian) { Array($0) }
    }
}

/// SplitMix64: the same numbers in every run.
struct SplitMix: RandomNumberGenerator {
    private var state: UInt64
    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 31)
    }
}
