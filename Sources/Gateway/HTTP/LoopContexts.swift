internal import NIOCore
internal import NIOPosix

/// The context of every event loop of the server, found by the loop itself.
struct LoopContexts: Sendable {
    private let byLoop: [ObjectIdentifier: LoopContext]

    init(group: MultiThreadedEventLoopGroup) async throws {
        var byLoop: [ObjectIdentifier: LoopContext] = [:]
        for eventLoop in group.makeIterator() {
            byLoop[ObjectIdentifier(eventLoop)] = try await eventLoop.submit { LoopContext(eventLoop: eventLoop) }.get()
        }
        self.byLoop = byLoop
    }

    var all: [LoopContext] { Array(byLoop.values) }

    subscript(eventLoop: any EventLoop) -> LoopContext? { byLoop[ObjectIdentifier(eventLoop)] }
}
