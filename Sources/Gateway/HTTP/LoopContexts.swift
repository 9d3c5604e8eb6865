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

    /// Ends what waits on the loops for another request, and returns when it has ended.
    func endIdleRunners() async throws {
        for loop in byLoop.values {
            try await loop.eventLoop.submit { loop.runners.end() }.get()
            // The tasks end in the jobs that this has put before the next one.
            try await loop.eventLoop.submit {}.get()
        }
    }

    var all: [LoopContext] { Array(byLoop.values) }

    subscript(eventLoop: any EventLoop) -> LoopContext? { byLoop[ObjectIdentifier(eventLoop)] }
}
