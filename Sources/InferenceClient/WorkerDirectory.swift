internal import Domain
internal import NIOCore
internal import NIOPosix
internal import NIOSSL
internal import Synchronization

#if canImport(Darwin)
    internal import Darwin
#else
    internal import Glibc
#endif

/// Finds the way to workers that are not simply a numeric address: looks names up and holds the TLS context. Shared by
/// all loops; asked only when a connection is opened.
final class WorkerDirectory: Sendable {
    struct Route: Sendable {
        /// Each of them permitted by the policy.
        let addresses: [SocketAddress]
        let tls: NIOSSLContext?
    }

    /// Every address of a name; blocking. A parameter, so that tests can say what a name resolves to.
    typealias Lookup = @Sendable (_ host: String, _ port: Int) throws -> [SocketAddress]

    private struct Name: Hashable {
        let host: String
        let port: Int
    }

    private struct Entry {
        let addresses: EventLoopFuture<[SocketAddress]>
        let expires: NIODeadline
    }

    private struct State {
        var entries: [Name: Entry] = [:]
        var isShutDown = false
    }

    /// How long an answer holds. `getaddrinfo` does not tell the lifetime that the name server gave.
    private static let lifetime = TimeAmount.seconds(30)
    private static let entryLimit = 256

    private let policy: WorkerAddressPolicy
    private let trust: WorkerTrust
    private let lookup: Lookup
    private let state = Mutex(State())
    /// Its own threads: a name server that does not answer holds them for many seconds.
    private let threads = NIOThreadPool(numberOfThreads: 2)

    init(policy: WorkerAddressPolicy, trust: WorkerTrust, lookup: @escaping Lookup) {
        self.policy = policy
        self.trust = trust
        self.lookup = lookup
    }

    func route(
        to address: WorkerAddress, target: WorkerAddressPolicy.Target, on eventLoop: any EventLoop
    ) -> EventLoopFuture<Route> {
        let addresses: EventLoopFuture<[SocketAddress]>
        switch target {
        case .numeric(let socketAddress): addresses = eventLoop.makeSucceededFuture([socketAddress])
        case .named: addresses = self.addresses(of: Name(host: address.host, port: address.port), on: eventLoop)
        case .refused: addresses = eventLoop.makeFailedFuture(WorkerFailure.unreachable)
        }
        guard address.usesTLS else { return addresses.map { Route(addresses: $0, tls: nil) } }
        if let context = trust.context { return addresses.map { Route(addresses: $0, tls: context) } }
        // Reading the roots of the system takes long enough to be no work for a loop.
        let context = blocking(on: eventLoop) { [trust] in try trust.loadSystemContext() }
            .flatMapErrorThrowing { _ in throw WorkerFailure.tls }
        return addresses.and(context).map { Route(addresses: $0, tls: $1) }
    }

    /// One look-up for everybody who asks at the same time.
    private func addresses(of name: Name, on eventLoop: any EventLoop) -> EventLoopFuture<[SocketAddress]> {
        let now = NIODeadline.now()
        let promise = eventLoop.makePromise(of: [SocketAddress].self)
        let known: EventLoopFuture<[SocketAddress]>? = state.withLock { state in
            if let entry = state.entries[name], entry.expires > now { return entry.addresses }
            if state.entries.count >= Self.entryLimit {
                state.entries = state.entries.filter { $0.value.expires > now }
                if state.entries.count >= Self.entryLimit { state.entries = [:] }
            }
            state.entries[name] = Entry(addresses: promise.futureResult, expires: now + Self.lifetime)
            return nil
        }
        if let known {
            promise.fail(WorkerFailure.unreachable)
            return known.hop(to: eventLoop)
        }
        promise.futureResult.whenFailure { [self] _ in
            // A name that could not be found may be there at the next attempt.
            state.withLock { _ = $0.entries.removeValue(forKey: name) }
        }
        let found = blocking(on: eventLoop) { [policy, lookup] in
            // The addresses that are checked are the ones that are connected to: a second look-up could say something
            // else.
            let permitted = try lookup(name.host, name.port).filter { IPAddress($0).map(policy.permits) ?? false }
            guard !permitted.isEmpty else { throw WorkerFailure.unreachable }
            return permitted
        }
        found.cascade(to: promise)
        return promise.futureResult
    }

    private func blocking<Value: Sendable>(
        on eventLoop: any EventLoop, _ work: @escaping @Sendable () throws -> Value
    ) -> EventLoopFuture<Value> {
        let isRunning = state.withLock { state in
            // Started by the first who needs them; starting twice does nothing.
            if !state.isShutDown { threads.start() }
            return !state.isShutDown
        }
        guard isRunning else { return eventLoop.makeFailedFuture(WorkerFailure.shutdown) }
        return threads.runIfActive(eventLoop: eventLoop, work)
    }

    /// Does not wait for the threads: one of them may sit in a look-up for as long as the system's resolver likes.
    func shutDown() {
        state.withLock { $0.isShutDown = true }
        threads.shutdownGracefully { _ in }
    }

    /// Asks the system.
    static let systemLookup: Lookup = { host, port in
        var hints = addrinfo()
        hints.ai_family = AF_UNSPEC
        hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        var first: UnsafeMutablePointer<addrinfo>?
        guard getaddrinfo(host, String(port), &hints, &first) == 0, let head = first else {
            throw WorkerFailure.unreachable
        }
        defer { freeaddrinfo(head) }
        var addresses: [SocketAddress] = []
        var next: UnsafeMutablePointer<addrinfo>? = head
        while let entry = next, addresses.count < 16 {
            if let address = entry.pointee.ai_addr {
                switch entry.pointee.ai_family {
                case AF_INET:
                    address.withMemoryRebound(to: sockaddr_in.self, capacity: 1) {
                        addresses.append(SocketAddress($0.pointee))
                    }
                case AF_INET6:
                    address.withMemoryRebound(to: sockaddr_in6.self, capacity: 1) {
                        addresses.append(SocketAddress($0.pointee))
                    }
                default: break
                }
            }
            next = entry.pointee.ai_next
        }
        return addresses
    }
}
