import Logging
internal import NIOCore

/// Keeps one connection: makes it when it is first needed and again after every end, with growing waits in between.
///
/// Confined to its event loop, which a `NIOLoopBoundBox` around it checks. What it does when is decided by
/// `ReconnectMachine`; this class performs it.
final class ConnectionKeeper {
    enum Event: Sendable {
        case ready
        case ended(RedisError, wasReady: Bool)
    }

    private struct Held {
        let request: RedisRequest
        let deadline: NIODeadline
    }

    private let endpoint: RedisEndpoint
    private let eventLoop: any EventLoop
    private let logger: Logger
    private let jitter: @Sendable (Int64) -> Int64
    private let onEvent: @Sendable (Event) -> Void
    private let subscription: SubscriptionPlan?

    private var machine: ReconnectMachine
    private var connection: RedisConnection?
    private var channel: (any Channel)?
    private var lastError: RedisError?
    /// Commands that wait for the very first attempt.
    private var held = CircularBuffer<Held>()
    private var heldTimer: Scheduled<Void>?
    private var reconnectTimer: Scheduled<Void>?
    private var pingTimer: Scheduled<Void>?

    /// - Parameter jitter: a random number between zero and the given bound, both included.
    init(
        endpoint: RedisEndpoint, eventLoop: any EventLoop, logger: Logger, subscription: SubscriptionPlan? = nil,
        jitter: @escaping @Sendable (Int64) -> Int64, onEvent: @escaping @Sendable (Event) -> Void
    ) {
        self.endpoint = endpoint
        self.eventLoop = eventLoop
        self.logger = logger
        self.subscription = subscription
        self.jitter = jitter
        self.onEvent = onEvent
        machine = ReconnectMachine(backoff: endpoint.configuration.backoff)
    }

    // MARK: Commands

    /// Begins to connect, if nobody has asked for that yet.
    func start() { perform(machine.demand()) }

    func submit(_ request: RedisRequest) {
        let deadline = eventLoop.now + .milliseconds(endpoint.configuration.commandTimeoutMilliseconds)
        switch machine.admission {
        case .send:
            if let connection { connection.send(request, deadline: deadline) } else { refuse(request) }
        case .refuse:
            refuse(request)
        case .hold:
            guard held.count < endpoint.configuration.maximumPendingCommands else {
                fail(request, .overloaded)
                return
            }
            held.append(Held(request: request, deadline: deadline))
            scheduleHeldDeadline()
            start()
        }
    }

    /// Takes no more commands, waits for the outstanding replies within their deadlines, and closes.
    func stop() -> EventLoopFuture<Void> {
        let wasReady = machine.state == .ready
        machine.stop()
        for timer in [heldTimer, reconnectTimer, pingTimer] { timer?.cancel() }
        failHeld()
        let closed = channel?.closeFuture ?? eventLoop.makeSucceededVoidFuture()
        if wasReady {
            connection?.drain()
        } else {
            connection?.abandon(.closed)
        }
        return closed
    }

    private func refuse(_ request: RedisRequest) { fail(request, refusal) }

    private func fail(_ request: RedisRequest, _ error: RedisError) {
        endpoint.metrics.failed(error)
        request.complete(.failure(error))
    }

    /// Why a command cannot be sent now. What an operator has to mend is named; the rest is "away".
    private var refusal: RedisError {
        if machine.state == .stopped { return .closed }
        return switch lastError {
        case .authenticationFailed?, .tls?, .invalidConfiguration?: lastError ?? .authenticationFailed
        case .unavailable?: lastError ?? .unavailable("there is no connection")
        case let error?: .unavailable("there is no connection; before, \(error)")
        case nil: .unavailable("there is no connection")
        }
    }

    // MARK: Commands that wait for the first attempt

    private func scheduleHeldDeadline() {
        guard heldTimer == nil, let first = held.first else { return }
        heldTimer = eventLoop.assumeIsolated().scheduleTask(deadline: first.deadline) { self.failExpired() }
    }

    private func failExpired() {
        heldTimer = nil
        while let first = held.first, first.deadline <= eventLoop.now {
            held.removeFirst()
            fail(first.request, .unavailable("there was no connection within the command's deadline"))
        }
        scheduleHeldDeadline()
    }

    private func failHeld() {
        heldTimer?.cancel()
        heldTimer = nil
        let error = refusal
        while let next = held.popFirst() { fail(next.request, error) }
    }

    private func sendHeld(on connection: RedisConnection) {
        heldTimer?.cancel()
        heldTimer = nil
        while let next = held.popFirst() { connection.send(next.request, deadline: next.deadline) }
    }

    // MARK: Connecting

    private func perform(_ action: ReconnectMachine.Action) {
        switch action {
        case .none:
            break
        case .connect:
            let connecting = endpoint.connect(on: eventLoop, onMessage: subscription?.onMessage)
            connecting.assumeIsolated().whenComplete { self.connected($0) }
        case .wait(let milliseconds):
            reconnectTimer = eventLoop.assumeIsolated().scheduleTask(in: .milliseconds(milliseconds)) {
                self.perform(self.machine.waited())
            }
        }
    }

    private func connected(_ result: Result<any Channel, any Error>) {
        switch result {
        case .failure(let error):
            attemptEnded(error as? RedisError ?? .unavailable(RedisConnection.text(of: error)))
        case .success(let channel):
            guard machine.state == .connecting else {
                channel.close(promise: nil)
                return
            }
            do {
                let connection = try channel.pipeline.syncOperations.handler(type: RedisConnection.self)
                self.channel = channel
                self.connection = connection
                connection.onEnd = { [weak self] error in self?.attemptEnded(error) }
                logIn(on: connection)
            } catch {
                channel.close(promise: nil)
                attemptEnded(.connectionLost)
            }
        }
    }

    private func logIn(on connection: RedisConnection) {
        let steps =
            endpoint.loginSteps() + (subscription?.commands ?? []).map { LoginStep(kind: .required, command: $0) }
        let deadline = eventLoop.now + .milliseconds(endpoint.configuration.connectTimeoutMilliseconds)
        for (index, step) in steps.enumerated() {
            let isLast = index == steps.count - 1
            reply(to: step.command, on: connection, deadline: deadline) { result in
                guard self.connection === connection, self.machine.state == .connecting else { return }
                if case .failure(let error) = result, let verdict = step.verdict(on: error) {
                    self.attemptEnded(verdict)
                    connection.abandon(verdict)
                } else if isLast {
                    self.becameReady(connection)
                }
            }
        }
    }

    private func reply(
        to command: RedisCommand, on connection: RedisConnection, deadline: NIODeadline,
        then body: @escaping (Result<RedisValue, RedisError>) -> Void
    ) {
        do throws(RedisError) {
            let bytes = try command.encoded()
            let promise = eventLoop.makePromise(of: RedisValue.self)
            promise.futureResult.assumeIsolated().whenComplete { result in
                body(result.mapError { $0 as? RedisError ?? .connectionLost })
            }
            connection.send(RedisRequest(bytes: bytes, completion: .promise(promise)), deadline: deadline)
        } catch {
            body(.failure(error))
        }
    }

    private func becameReady(_ connection: RedisConnection) {
        machine.connected()
        lastError = nil
        endpoint.metrics.connected()
        logger.debug("Redis connection is ready")
        onEvent(.ready)
        sendHeld(on: connection)
        if subscription != nil { schedulePing(on: connection) }
    }

    private func attemptEnded(_ error: RedisError) {
        let wasReady = machine.state == .ready
        connection?.onEnd = nil
        connection = nil
        channel = nil
        pingTimer?.cancel()
        guard machine.state != .stopped else { return }
        lastError = error
        let action = machine.ended(jitter: jitter)
        logger.debug("Redis connection ended", metadata: ["reason": "\(error.metricLabel)", "wasReady": "\(wasReady)"])
        onEvent(.ended(error, wasReady: wasReady))
        failHeld()
        perform(action)
    }

    // MARK: Asking whether a silent peer is still there

    private func schedulePing(on connection: RedisConnection) {
        let interval = TimeAmount.milliseconds(endpoint.configuration.subscriptionPingIntervalMilliseconds)
        pingTimer = eventLoop.assumeIsolated().scheduleTask(in: interval) {
            guard self.connection === connection else { return }
            let deadline = self.eventLoop.now + .milliseconds(self.endpoint.configuration.connectTimeoutMilliseconds)
            // Without a reply in time the connection ends itself, so the result needs no more than to go on.
            self.reply(to: RedisCommand("PING"), on: connection, deadline: deadline) { result in
                if case .success = result { self.schedulePing(on: connection) }
            }
        }
    }
}

/// What a subscriber's connection sends after logging in, and where its messages go.
struct SubscriptionPlan: Sendable {
    /// One command for each channel, because each is confirmed by a reply of its own.
    let commands: [RedisCommand]
    let onMessage: @Sendable (RedisMessage) -> Void
}
