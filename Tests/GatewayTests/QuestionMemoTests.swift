import NIOCore
import Testing

@testable import Domain
@testable import Gateway

@Suite("Keys of questions that came before") struct QuestionMemoTests {
    private static let tenant = TenantID(high: 0, low: 1)
    private static let terms = QuestionMemo.Terms(
        surface: .predict, model: "iris", version: "1", sameness: .tensors, stickyField: nil)

    /// What the memo answers, and whether it had to be told.
    private func ask(
        _ memo: QuestionMemo, _ text: String = "{}", tenant: TenantID = tenant, terms: QuestionMemo.Terms = terms,
        key: UInt64
    ) -> (key: CacheKey, isMade: Bool) {
        var isMade = false
        let found = memo.key(ByteBuffer(string: text), of: tenant, terms) {
            isMade = true
            return CacheKey(key, 0, 0, 0)
        }
        return (found, isMade)
    }

    @Test("the same bytes under the same terms need no digest a second time")
    func same() {
        let memo = QuestionMemo()
        #expect(ask(memo, key: 1).isMade)
        let again = ask(memo, key: 2)
        #expect(!again.isMade && again.key == CacheKey(1, 0, 0, 0))
    }

    @Test("other bytes, another tenant or any other term is another question")
    func different() {
        let memo = QuestionMemo()
        _ = ask(memo, key: 1)
        #expect(ask(memo, "{ }", key: 2).isMade)
        #expect(ask(memo, tenant: TenantID(high: 1, low: 1), key: 3).isMade)
        let others = [
            QuestionMemo.Terms(
                surface: .embeddings, model: "iris", version: "1", sameness: .tensors, stickyField: nil),
            .init(surface: .predict, model: "rose", version: "1", sameness: .tensors, stickyField: nil),
            .init(surface: .predict, model: "iris", version: "2", sameness: .tensors, stickyField: nil),
            .init(surface: .predict, model: "iris", version: "1", sameness: .canonicalJSON, stickyField: nil),
            .init(surface: .predict, model: "iris", version: "1", sameness: .tensors, stickyField: "user"),
        ]
        for (number, terms) in others.enumerated() {
            let found = ask(memo, terms: terms, key: UInt64(10 + number))
            #expect(found.isMade && found.key == CacheKey(UInt64(10 + number), 0, 0, 0))
        }
    }

    @Test("a part that is full forgets what it knew, and goes on")
    func bounded() {
        let memo = QuestionMemo()
        for number in 0..<40_000 { _ = ask(memo, "\(number)", key: UInt64(number)) }
        #expect(memo.count <= 16 * QuestionMemo.partLimit)
        #expect(ask(memo, "39999", key: 0).key == CacheKey(39_999, 0, 0, 0))
    }
}
