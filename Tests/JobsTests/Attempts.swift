import Logging
import Synchronization

/// Counts what happens, and lets a test wait for a number.
final class Attempts: Sendable {
    private struct State {
        var count = 0
        var waiting: [(number: Int, continuation: CheckedContinuation<Void, Never>)] = []
    }

    private let state = Mutex(State())

    var count: Int { state.withLock { $0.count } }

    /// - Returns: the number of this attempt, from 1.
    func next() -> Int {
        let (number, reached) = state.withLock { state in
            state.count += 1
            let reached = state.waiting.filter { $0.number <= state.count }
            state.waiting.removeAll { $0.number <= state.count }
            return (state.count, reached)
        }
        for entry in reached { entry.continuation.resume() }
        return number
    }

    func reach(_ number: Int) async {
        await withCheckedContinuation { continuation in
            let isReached = state.withLock { state in
                guard state.count < number else { return true }
                state.waiting.append((number, continuation))
                return false
            }
            if isReached { continuation.resume() }
        }
    }
}

let quietLogger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

/// Counts the warnings and errors that are logged.
final class CountedLog: Sendable {
    private let state = Mutex((warnings: 0, errors: 0, causes: [String]()))
    private let logged = Attempts()

    var warnings: Int { state.withLock { $0.warnings } }
    var errors: Int { state.withLock { $0.errors } }
    var causes: [String] { state.withLock { $0.causes } }

    func reachErrors(_ number: Int) async { await logged.reach(number) }

    var logger: Logger {
        var logger = Logger(label: "test") { _ in Handler(log: self) }
        logger.logLevel = .trace
        return logger
    }

    private func add(_ level: Logger.Level, _ metadata: Logger.Metadata?) {
        state.withLock { state in
            if level == .warning { state.warnings += 1 }
            if level == .error { state.errors += 1 }
            if let cause = metadata?["cause"] { state.causes.append("\(cause)") }
        }
        if level == .error { _ = logged.next() }
    }

    private struct Handler: LogHandler {
        let log: CountedLog
        var metadata: Logger.Metadata = [:]
        var logLevel: Logger.Level = .trace

        init(log: CountedLog) { self.log = log }

        subscript(metadataKey key: String) -> Logger.Metadata.Value? {
            get { metadata[key] }
            set { metadata[key] = newValue }
        }

        func log(event: LogEvent) { log.add(event.level, event.metadata) }
    }
}
