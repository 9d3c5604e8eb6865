public import Domain
internal import NIOCore
internal import NIOHTTP1
public import NIOPosix
internal import NIOSSL
internal import Synchronization

#if canImport(Darwin)
    internal import Darwin
#else
    internal import Glibc
#endif

/// Sends webhooks: one connection for each attempt, to an address that was looked up and checked for this attempt.
///
/// The name is never looked up again between the check and the connection, so what it says the second time does not matter (DNS rebinding).
/// TLS is verified against the name. No redirect is followed, no proxy is used, and of an answer no more is read than its head and a
/// kilobyte.
///
/// Must be shut down.
public final class WebhookClient: WebhookTransport, WebhookTargets {
    /// Every address of a name; blocking. A parameter, so that tests can say what a name resolves to.
    typealias Lookup = WorkerDirectory.Lookup

    private let eventLoops: MultiThreadedEventLoopGroup
    private let policy: WebhookAddressPolicy
    private let trust: WorkerTrust
    private let timeoutMilliseconds: Int64
    private let lookup: Lookup
    /// Its own: a name server that does not answer holds a thread for many seconds, and customers choose the names.
    private let threads = NIOThreadPool(numberOfThreads: 8)
    /// For names that a customer only wants to name: however many of them are silent, what is to be sent is not held up.
    private let checkThreads = NIOThreadPool(numberOfThreads: 2)
    private let waiting = Mutex((lookups: 0, checks: 0))
    /// Look-ups that may wait or be under way; whoever comes then is told so at once.
    private static let lookupLimit = 512
    private static let checkLimit = 16

    /// Addresses of one name that are tried in turn.
    private static let addressLimit = 3

    /// - Parameter timeoutMilliseconds: for one attempt, from the look-up to the head of the answer.
    public convenience init(
        eventLoops: MultiThreadedEventLoopGroup, policy: WebhookAddressPolicy, trust: WorkerTrust = .system,
        timeoutMilliseconds: Int64
    ) {
        self.init(
            eventLoops: eventLoops, policy: policy, trust: trust, timeoutMilliseconds: timeoutMilliseconds,
            lookup: WorkerDirectory.systemLookup)
    }

    init(
        eventLoops: MultiThreadedEventLoopGroup, policy: WebhookAddressPolicy, trust: WorkerTrust,
        timeoutMilliseconds: Int64, lookup: @escaping Lookup
    ) {
        self.eventLoops = eventLoops
        self.policy = policy
        self.trust = trust
        self.timeoutMilliseconds = timeoutMilliseconds
        self.lookup = lookup
        threads.start()
        checkThreads.start()
    }

    /// Does not wait for the threads: one of them may sit in a look-up for as long as the system's resolver likes.
    public func shutdown() {
        threads.shutdownGracefully { _ in }
        checkThreads.shutdownGracefully { _ in }
    }

    public func check(_ url: WebhookURL) async throws(WebhookTargetRefusal) {
        if !url.usesTLS, !policy.allowsHTTP {
            throw WebhookTargetRefusal("must begin with https://: what is sent without TLS can be read on the way")
        }
        let eventLoop = eventLoops.next()
        let found = eventLoop.makePromise(of: [SocketAddress].self)
        let timer = eventLoop.scheduleTask(in: .milliseconds(timeoutMilliseconds)) {
            found.fail(WebhookFailure.timeout)
        }
        addresses(of: url, on: eventLoop, isCheck: true).cascade(to: found)
        found.futureResult.whenComplete { _ in timer.cancel() }
        do {
            _ = try await found.futureResult.get()
        } catch WebhookFailure.forbiddenTarget {
            throw WebhookTargetRefusal("has an address that is private, local or otherwise not on the public internet")
        } catch {
            throw WebhookTargetRefusal("has a host whose address cannot be found")
        }
    }

    public func send(_ message: WebhookMessage) async -> WebhookReply {
        guard message.url.usesTLS || policy.allowsHTTP else { return .failed(.forbiddenTarget) }
        let eventLoop = eventLoops.next()
        let status = eventLoop.makePromise(of: Int.self)
        let progress = LookupProgress()
        let timer = eventLoop.scheduleTask(in: .milliseconds(timeoutMilliseconds)) {
            // Who has waited for a thread all the time was kept from it by other names, and not by its own.
            status.fail(progress.isWaiting ? WebhookFailure.noCapacity : .timeout)
        }
        status.futureResult.whenComplete { _ in timer.cancel() }
        let deadline = NIODeadline.now() + .milliseconds(timeoutMilliseconds)
        addresses(of: message.url, on: eventLoop, progress: progress).and(tlsContext(for: message.url, on: eventLoop))
            .whenComplete {
                result in
                switch result {
                case .success((let addresses, let context)):
                    Self.dial(addresses[...], context, message, status, deadline, on: eventLoop)
                case .failure(let error): status.fail(error)
                }
            }
        do {
            return .answered(status: try await status.futureResult.get())
        } catch {
            return .failed(error as? WebhookFailure ?? .connectFailed)
        }
    }

    // MARK: - Addresses

    /// Every address of the host. One that is forbidden makes the host forbidden: who mixes them means no good.
    private func addresses(
        of url: WebhookURL, on eventLoop: any EventLoop, isCheck: Bool = false,
        progress: LookupProgress = LookupProgress()
    ) -> EventLoopFuture<[SocketAddress]> {
        if let numeric = IPAddress(url.host) {
            guard policy.permits(numeric) else { return eventLoop.makeFailedFuture(WebhookFailure.forbiddenTarget) }
            return eventLoop.makeCompletedFuture { [try SocketAddress(ipAddress: url.host, port: url.port)] }
        }
        guard !url.host.contains(":") else { return eventLoop.makeFailedFuture(WebhookFailure.forbiddenTarget) }
        let (pool, limit) = isCheck ? (checkThreads, Self.checkLimit) : (threads, Self.lookupLimit)
        guard count(1, isCheck: isCheck) <= limit else {
            count(-1, isCheck: isCheck)
            return eventLoop.makeFailedFuture(WebhookFailure.noCapacity)
        }
        progress.isWaiting = true
        let deadline = NIODeadline.now() + .milliseconds(timeoutMilliseconds)
        let answer = pool.runIfActive(eventLoop: eventLoop) { [lookup, policy] in
            // Whoever asked has been told already.
            guard NIODeadline.now() < deadline else { throw WebhookFailure.noCapacity }
            progress.isWaiting = false
            let found: [SocketAddress]
            do {
                found = try lookup(url.host, url.port)
            } catch {
                throw WebhookFailure.unknownHost
            }
            guard !found.isEmpty else { throw WebhookFailure.unknownHost }
            guard found.allSatisfy({ IPAddress($0).map(policy.permits) ?? false }) else {
                throw WebhookFailure.forbiddenTarget
            }
            return Array(found.prefix(Self.addressLimit))
        }
        answer.whenComplete { _ in self.count(-1, isCheck: isCheck) }
        return answer.flatMapErrorThrowing { error in
            // The threads take nothing more: this process is being stopped.
            throw error is WebhookFailure ? error : WebhookFailure.noCapacity
        }
    }

    /// Whether a look-up still waits for a thread.
    private final class LookupProgress: Sendable {
        private let waiting = Atomic(false)

        var isWaiting: Bool {
            get { waiting.load(ordering: .relaxed) }
            set { waiting.store(newValue, ordering: .relaxed) }
        }
    }

    /// - Returns: look-ups of this kind that wait or are under way.
    @discardableResult
    private func count(_ change: Int, isCheck: Bool) -> Int {
        waiting.withLock { waiting in
            if isCheck { waiting.checks += change } else { waiting.lookups += change }
            return isCheck ? waiting.checks : waiting.lookups
        }
    }

    private func tlsContext(for url: WebhookURL, on eventLoop: any EventLoop) -> EventLoopFuture<NIOSSLContext?> {
        guard url.usesTLS else { return eventLoop.makeSucceededFuture(nil) }
        if let context = trust.context { return eventLoop.makeSucceededFuture(context) }
        return threads.runIfActive(eventLoop: eventLoop) { [trust] in
            do {
                return try trust.loadSystemContext()
            } catch {
                throw WebhookFailure.tls
            }
        }
    }

    // MARK: - Connecting

    /// Tries one address after the other until one accepts.
    private static func dial(
        _ addresses: ArraySlice<SocketAddress>, _ context: NIOSSLContext?, _ message: WebhookMessage,
        _ status: EventLoopPromise<Int>, _ deadline: NIODeadline, on eventLoop: any EventLoop
    ) {
        guard let first = addresses.first else { return status.fail(WebhookFailure.connectFailed) }
        let left = deadline - NIODeadline.now()
        let share = TimeAmount.nanoseconds(max(1, left.nanoseconds / Int64(addresses.count)))
        ClientBootstrap(group: eventLoop)
            .connectTimeout(share)
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    let pipeline = channel.pipeline.syncOperations
                    if let context {
                        // An address is no name that can be indicated; then the certificate has to hold the address.
                        let name: String? = IPAddress(message.url.host) == nil ? message.url.host : nil
                        try pipeline.addHandler(NIOSSLClientHandler(context: context, serverHostname: name))
                    }
                    try pipeline.addHTTPClientHandlers()
                    try pipeline.addHandler(WebhookExchange(message, status: status))
                }
            }
            .connect(to: first)
            .whenComplete { result in
                switch result {
                case .success(let channel): status.futureResult.whenFailure { _ in channel.close(promise: nil) }
                case .failure(let error as IOError) where ownErrors.contains(error.errnoCode):
                    status.fail(WebhookFailure.noCapacity)
                case .failure: dial(addresses.dropFirst(), context, message, status, deadline, on: eventLoop)
                }
            }
    }

    /// The process or the machine has no descriptor, memory or port left.
    private static let ownErrors: Set<CInt> = [EMFILE, ENFILE, ENOBUFS, ENOMEM, EADDRNOTAVAIL]
}
