import NIOCore
import Testing

@testable import InferenceClient

@Suite("Counting the connections to a replica")
struct PoolStateTests {
    final class Thing {}

    typealias State = PoolState<Thing, Thing>

    static func expires(_ second: UInt64) -> NIODeadline { .uptimeNanoseconds(second * 1_000_000_000) }

    /// Acquires for somebody; `nil` unless a new connection is to be opened.
    static func opens(_ state: inout State) -> Bool {
        if case .open = state.acquire(Thing()) { true } else { false }
    }

    @Test("the connection that was used last is used next")
    func stack() throws {
        var state = State(limits: .init(connections: 3, idle: 3, waiting: 0))
        let connections = [Thing(), Thing(), Thing()]
        for connection in connections {
            #expect(Self.opens(&state))
            _ = connection
        }
        for connection in connections {
            guard case .shelve = state.release(connection, expires: Self.expires(1)) else { throw Unexpected() }
        }
        #expect(state.openCount == 3 && state.idleCount == 3)
        for connection in connections.reversed() {
            guard case .reuse(let reused) = state.acquire(Thing()) else { throw Unexpected() }
            #expect(reused === connection)
        }
        #expect(state.idleCount == 0)
    }

    struct Unexpected: Error {}

    @Test("who finds no connection waits, the next one is refused, and places go to the one who waited longest")
    func queue() throws {
        var state = State(limits: .init(connections: 1, idle: 1, waiting: 2))
        let (first, second) = (Thing(), Thing())
        #expect(Self.opens(&state))
        guard case .wait = state.acquire(first), case .wait = state.acquire(second) else { throw Unexpected() }
        guard case .refuse = state.acquire(Thing()) else { throw Unexpected() }
        #expect(state.waitingCount == 2)
        guard case .serve(let served) = state.release(Thing(), expires: Self.expires(1)) else { throw Unexpected() }
        #expect(served === first)
        #expect(state.closed() === second)
        #expect(state.openCount == 1 && state.waitingCount == 0)
        #expect(state.closed() == nil)
        #expect(state.isEmpty)
    }

    @Test("one who gives up waiting is not served")
    func givesUp() throws {
        var state = State(limits: .init(connections: 1, idle: 1, waiting: 2))
        let (first, second) = (Thing(), Thing())
        #expect(Self.opens(&state))
        guard case .wait = state.acquire(first), case .wait = state.acquire(second) else { throw Unexpected() }
        state.remove(first)
        state.remove(first)
        #expect(state.closed() === second)
    }

    @Test("more idle connections than permitted are closed")
    func idleLimit() throws {
        var state = State(limits: .init(connections: 2, idle: 1, waiting: 0))
        #expect(Self.opens(&state) && Self.opens(&state))
        guard case .shelve = state.release(Thing(), expires: Self.expires(1)) else { throw Unexpected() }
        guard case .close = state.release(Thing(), expires: Self.expires(1)) else { throw Unexpected() }
        #expect(state.openCount == 1 && state.idleCount == 1)
    }

    @Test("idle connections expire one by one, and one that closes itself is forgotten")
    func expiry() {
        var state = State(limits: .init(connections: 3, idle: 3, waiting: 0))
        let connections = [Thing(), Thing(), Thing()]
        for (index, connection) in connections.enumerated() {
            #expect(Self.opens(&state))
            _ = connection
            _ = index
        }
        for (index, connection) in connections.enumerated() {
            _ = state.release(connection, expires: Self.expires(UInt64(index + 1)))
        }
        #expect(state.nextExpiry == Self.expires(1))
        #expect(state.takeExpired(at: Self.expires(1)).map(ObjectIdentifier.init) == [ObjectIdentifier(connections[0])])
        #expect(state.openCount == 2)
        state.idleClosed(connections[1])
        state.idleClosed(connections[1])
        #expect(state.openCount == 1 && state.idleCount == 1)
        #expect(state.nextExpiry == Self.expires(3))
        #expect(state.takeExpired(at: Self.expires(2)).isEmpty)
    }
}
