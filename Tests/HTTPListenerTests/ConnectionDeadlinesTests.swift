import Testing

@testable import HTTPListener

@Suite("Connection deadlines") struct ConnectionDeadlinesTests {
    private typealias Step = (inout ConnectionDeadlines) -> Void
    private static let limits = ConnectionDeadlines.Limits(
        headNanoseconds: 10, bodyNanoseconds: 30, idleNanoseconds: 75)

    private func after(_ steps: (inout ConnectionDeadlines) -> Void) -> ConnectionDeadlines {
        var deadlines = ConnectionDeadlines(limits: Self.limits, now: 100)
        steps(&deadlines)
        return deadlines
    }

    @Test("an idle connection is closed without an answer")
    func idle() {
        let deadlines = after { _ in }
        #expect(deadlines.expiry(now: 174) == .notYet(atNanoseconds: 175))
        #expect(deadlines.expiry(now: 175) == .closeIdle)
    }

    @Test("a head has its time from its first byte, however many follow")
    func head() {
        let deadlines = after {
            $0.bytesArrived(now: 110)
            $0.bytesArrived(now: 118)
        }
        #expect(deadlines.expiry(now: 119) == .notYet(atNanoseconds: 120))
        #expect(deadlines.expiry(now: 120) == .requestTimeout)
        #expect(deadlines.dueNanoseconds == 120)
    }

    @Test("a body has its time from its last bytes")
    func body() {
        let deadlines = after {
            $0.headArrived(now: 110)
            $0.bodyArrived(now: 130)
        }
        #expect(deadlines.expiry(now: 159) == .notYet(atNanoseconds: 160))
        #expect(deadlines.expiry(now: 160) == .requestTimeout)
    }

    @Test("a body that arrives byte by byte has ten times that and no more")
    func endlessBody() {
        let deadlines = after { deadlines in
            deadlines.headArrived(now: 110)
            for now in stride(from: UInt64(120), through: 400, by: 10) { deadlines.bodyArrived(now: now) }
        }
        #expect(deadlines.expiry(now: 409) == .notYet(atNanoseconds: 410))
        #expect(deadlines.expiry(now: 410) == .requestTimeout)
    }

    @Test("while an answer is made nothing is waited for, whatever arrives")
    func answering() {
        var deadlines = after {
            $0.headArrived(now: 110)
            $0.requestComplete()
            $0.bytesArrived(now: 111)
            $0.bodyArrived(now: 112)
        }
        #expect(deadlines.expiry(now: .max) == .none)
        #expect(deadlines.dueNanoseconds == nil)
        deadlines.answerComplete(now: 500)
        #expect(deadlines.expiry(now: 575) == .closeIdle)
    }
}
