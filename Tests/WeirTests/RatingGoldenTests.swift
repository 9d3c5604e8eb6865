import Foundation
import Testing

@testable import weir

/// Holds the rating to amounts that an independent program and, for some, a pencil found. Tests/e2e/test_rating.py checks those.
@Suite("Golden amounts")
struct RatingGoldenTests {
    private static func cases() throws -> [RatingCase] {
        let tests = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        return try RatingCase.list(Data(contentsOf: tests.appendingPathComponent("golden/rating.json")))
    }

    @Test("every golden case is rated to the micro-unit")
    func golden() throws {
        let cases = try Self.cases()
        #expect(cases.count >= 40)
        for example in cases {
            let expected = try #require(example.expected, "\(example.name)")
            let rated = try example.rated()
            #expect(rated == expected, "\(example.name)")
        }
    }
}
