import Logging

/// Keeps a worker's models in the table of routes: registers them, says that they are there, and takes them away at the end.
///
/// The worker serves whatever becomes of this. What fails is tried again, ever more seldom.
struct WorkerRegistration: Sendable {
    /// One model as the admin API takes it.
    struct Entry: Encodable, Sendable {
        let model: String
        let version: String
        let address: String
        let `protocol`: String
        let weight: Int
        let ttlSeconds: Int
    }

    let client: AdminClient
    let entries: [Entry]
    let logger: Logger

    /// What is known at the end of a model's place in the table.
    private enum Standing {
        case away
        case registered(id: String)
        /// It was stopped while it registered: whether it has a place, and which, was not told.
        case unknown(Entry)
    }

    /// Runs until `stop` returns, and says then that the worker leaves.
    func run(until stop: @Sendable () async -> Void) async {
        let standings = await withTaskGroup(of: Standing.self) { group in
            for entry in entries { group.addTask { await keep(entry) } }
            await stop()
            group.cancelAll()
            return await group.reduce(into: []) { $0.append($1) }
        }
        for standing in standings {
            switch standing {
            case .away: break
            case .registered(let id): await leave(id)
            // Who registers again takes the same place, under an id that is told this time.
            case .unknown(let entry): if let worker = try? await register(entry) { await leave(worker.id) }
            }
        }
    }

    private func keep(_ entry: Entry) async -> Standing {
        var id: String?
        var backoff = RetryBackoff()
        while !Task.isCancelled {
            var pauseMilliseconds: Int64
            do {
                if let known = id {
                    id = try await renew(known, entry)
                    // Its place is another's, or it was taken away: it registers anew at once.
                    pauseMilliseconds = id == nil ? 0 : Int64(max(1, entry.ttlSeconds / 3)) * 1_000
                } else {
                    let worker = try await register(entry)
                    id = worker.id
                    logger.notice(
                        "registered",
                        metadata: ["model": "\(entry.model)", "version": "\(entry.version)", "worker": "\(worker.id)"])
                    pauseMilliseconds = Int64(worker.heartbeatSeconds) * 1_000
                }
                backoff.succeeded()
            } catch {
                if id == nil, Task.isCancelled { return .unknown(entry) }
                var random = SystemRandomNumberGenerator()
                pauseMilliseconds = backoff.failed(using: &random)
                logger.warning(
                    "the worker could not be registered; trying again",
                    metadata: ["model": "\(entry.model)", "cause": "\(error)", "in_ms": "\(pauseMilliseconds)"])
            }
            try? await Task.sleep(nanoseconds: UInt64(pauseMilliseconds) * 1_000_000)
        }
        return id.map { .registered(id: $0) } ?? .away
    }

    private func register(_ entry: Entry) async throws -> AdminWorker {
        let call = try AdminRequest(.post, ["workers"], body: entry)
        return try await client.answer(to: call, withinSeconds: 5).checked().decoded(AdminWorker.self)
    }

    private func renew(_ id: String, _ entry: Entry) async throws -> String? {
        let call = try AdminRequest(.post, ["workers", id, "heartbeat"])
        let answer = try await client.answer(to: call, withinSeconds: Int64(max(1, entry.ttlSeconds / 3)))
        if answer.status == 404 { return nil }
        _ = try answer.checked()
        return id
    }

    private func leave(_ id: String) async {
        do {
            _ = try await client.answer(to: AdminRequest(.delete, ["workers", id]), withinSeconds: 5)
        } catch {
            logger.warning("the worker could not say that it leaves", metadata: ["cause": "\(error)"])
        }
    }
}

/// How long to wait after failures: doubles from a quarter of a second to ten, each time a random part of it, so that many workers do not
/// come back at once.
struct RetryBackoff: Sendable {
    private static let firstMilliseconds: Int64 = 250
    private static let lastMilliseconds: Int64 = 10_000
    private var failures = 0

    mutating func succeeded() { failures = 0 }

    /// Milliseconds, between half and all of the present step.
    mutating func failed(using random: inout some RandomNumberGenerator) -> Int64 {
        let step = min(Self.firstMilliseconds << Int64(min(failures, 10)), Self.lastMilliseconds)
        failures += 1
        return Int64.random(in: step / 2...step, using: &random)
    }
}
