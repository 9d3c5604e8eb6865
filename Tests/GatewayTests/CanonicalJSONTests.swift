import NIOCore
import Testing

@testable import Gateway

@Suite("Canonical JSON") struct CanonicalJSONTests {
    private func canonical(_ text: String) throws -> String {
        var buffer = ByteBuffer()
        try JSONTape(ByteBuffer(string: text)).writeCanonical(to: &buffer)
        return String(buffer: buffer)
    }

    @Test(
        "blanks, order and escapes make no difference",
        arguments: [
            (#"{"b":1,"a":[1,2]}"#, #"{"a":[1,2],"b":1}"#),
            (" { \"a\" : [ 1 ,\n2 ] , \"b\":1}\t", #"{"a":[1,2],"b":1}"#),
            (#"{"a":"A\n"}"#, #"{"a":"A\u000a"}"#), (#"{"\u0061":"\u0041\u000A\/"}"#, #"{"a":"A\u000a/"}"#),
            (
                #"{"x":{"d":null,"c":true},"aa":false,"a":{},"B":[]}"#,
                #"{"B":[],"a":{},"aa":false,"x":{"c":true,"d":null}}"#
            ),
            (#"{"ä":1,"z":2,"":3}"#, #"{"":3,"z":2,"ä":1}"#), (#"["b","a"]"#, #"["b","a"]"#), ("7", "7"),
        ])
    func same(text: String, expected: String) throws {
        #expect(try canonical(text) == expected)
    }

    @Test(
        "numbers stand as they were written",
        arguments: ["1", "1.0", "1e0", "-0", "0", "9007199254740993", "18446744073709551615", "5.10"])
    func numbers(number: String) throws {
        #expect(try canonical("{ \"n\": \(number) }") == "{\"n\":\(number)}")
    }

    @Test("another value, another order of an array and another route give another fingerprint")
    func fingerprints() throws {
        let body = #"{"model":"iris","features":[5.1,3.5,1.4,0.2]}"#
        let others = [
            #"{"model":"iris","features":[3.5,5.1,1.4,0.2]}"#, #"{"model":"iris","features":[5.1,3.5,1.4,0.20]}"#,
            #"{"model":"iris","inputs":[[5.1,3.5,1.4,0.2]]}"#, #"{"model":"Iris","features":[5.1,3.5,1.4,0.2]}"#,
        ]
        let tape = try JSONTape(ByteBuffer(string: body))
        var seen = [ClaimKeeper.fingerprint("POST /predict/", tape), ClaimKeeper.fingerprint("POST /other", tape)]
        seen += try others.map { ClaimKeeper.fingerprint("POST /predict/", try JSONTape(ByteBuffer(string: $0))) }
        #expect(Set(seen).count == 6 && seen.allSatisfy { $0.count == 32 })
        let same = try JSONTape(ByteBuffer(string: #" {"features":[5.1, 3.5, 1.4, 0.2], "model":"iris"}"#))
        #expect(ClaimKeeper.fingerprint("POST /predict/", same) == seen[0])
    }
}
