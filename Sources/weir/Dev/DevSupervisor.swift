import Foundation
import Glibc
import Synchronization

/// The children of one `weir dev`, in the order in which they were started.
final class DevChildren: Sendable {
    /// Without these nothing can be served; Weir lives on without the others, and says so in its answers.
    static let indispensable: Set<String> = ["postgres", "serve"]

    private struct State {
        var children: [ChildProcess] = []
        /// Children whose unexpected end was handed out by ``takeEnded()``.
        var reported: Set<pid_t> = []
    }

    private let state = Mutex(State())
    private let recordPath: String

    init(recordPath: String) {
        self.recordPath = recordPath
    }

    /// Starts a child and writes it down for a successor.
    func start(_ command: ChildCommand, logPath: String, readsOutput: Bool = false) throws -> ChildProcess {
        let child = try ChildProcess(command, logPath: logPath, readsOutput: readsOutput)
        let remembered = state.withLock { state in
            state.children.append(child)
            return state.children.compactMap { RememberedChild(name: $0.name, processID: $0.processID) }
        }
        try PrivateFile.write(try JSONEncoder().encode(remembered), to: recordPath)
        return child
    }

    /// Children that ended since the last call although nobody asked them to.
    func takeEnded() -> [ChildProcess] {
        state.withLock { state in
            let ended = state.children.filter { !$0.isRunning && !state.reported.contains($0.processID) }
            state.reported.formUnion(ended.map(\.processID))
            return ended
        }
    }

    /// Stops all of them, the last one first: gateways finish and settle while PostgreSQL is still there.
    /// - Parameter hurry: whether somebody lost patience; then nobody gets time to finish, but PostgreSQL still shuts
    ///   down in order.
    func stopAll(report: (String) -> Void, hurry: @Sendable () -> Bool) async {
        let all = state.withLock { $0.children }
        for child in all.reversed() {
            if child.isRunning {
                report("Stopping \(child.name)")
                // SIGINT is PostgreSQL's fast shutdown.
                let isPostgres = child.name == "postgres"
                child.send(isPostgres ? SIGINT : SIGTERM)
                if await !child.waitForEnd(milliseconds: 45_000, hurry: { !isPostgres && hurry() }) {
                    child.send(isPostgres ? SIGQUIT : SIGKILL)
                    _ = await child.waitForEnd(milliseconds: 10_000)
                }
            }
        }
        if all.allSatisfy({ !$0.isRunning }) { unlink(recordPath) }
    }
}

/// Runs the pieces of `weir dev` until somebody stops it or a piece that it cannot do without ends.
struct DevSupervisor: Sendable {
    private enum Outcome: Sendable {
        case signalled
        /// A child ended by itself.
        case ended(name: String, code: Int32, logPath: String)
        case failed(any Error)
    }

    let installation: DevInstallation
    let children: DevChildren
    let report: @Sendable (String) -> Void

    /// - Parameter announce: called once everything answers.
    func run(signals: AsyncStream<Int32>, announce: @escaping @Sendable (DevReport) -> Void) async throws {
        let outcome = await withTaskGroup(of: Outcome?.self) { group in
            group.addTask { await bringUpAndWatch(announce) }
            group.addTask {
                for await _ in signals { return .signalled }
                return nil
            }
            var outcome: Outcome?
            while outcome == nil, let next = await group.next() { outcome = next }
            group.cancelAll()
            return outcome
        }
        await stop(signals)
        switch outcome {
        case .signalled, nil: return
        case .failed(let error): throw error
        case .ended(let name, let code, let logPath):
            throw CommandFailure(
                "\(name) ended unexpectedly with \(code); the end of \(logPath) says:\n\(LogTail.read(logPath))")
        }
    }

    private func bringUpAndWatch(_ announce: @Sendable (DevReport) -> Void) async -> Outcome? {
        do {
            announce(try await installation.bringUp(children, report: report))
            while true {
                try await Task.sleep(for: .milliseconds(100))
                for child in children.takeEnded() {
                    let log = installation.layout.logPath(child.name)
                    if DevChildren.indispensable.contains(child.name) {
                        return .ended(name: child.name, code: child.exitCode ?? -1, logPath: log)
                    }
                    report(
                        "\(child.name) ended unexpectedly with \(child.exitCode ?? -1); going on without it. Its log is \(log)"
                    )
                }
            }
        } catch is CancellationError {
            return nil
        } catch {
            // A wait that was cut short by a signal may fail in other words; the signal counts.
            return Task.isCancelled ? nil : .failed(error)
        }
    }

    /// Stops everything; a second signal takes away the time to finish.
    private func stop(_ signals: AsyncStream<Int32>) async {
        let impatience = Flag()
        await withTaskGroup(of: Bool.self) { group in
            group.addTask {
                await children.stopAll(report: report) { impatience.isSet }
                return true
            }
            group.addTask {
                for await _ in signals { impatience.set() }
                return false
            }
            while let isStopped = await group.next(), !isStopped {}
            group.cancelAll()
        }
    }

    private final class Flag: Sendable {
        private let value = Atomic(false)
        var isSet: Bool { value.load(ordering: .relaxed) }
        func set() { value.store(true, ordering: .relaxed) }
    }
}

/// The end of a log, for a message.
enum LogTail {
    static func read(_ path: String, limit: Int = 2_000) -> String {
        guard let handle = FileHandle(forReadingAtPath: path), let end = try? handle.seekToEnd() else {
            return "(there is no log)"
        }
        try? handle.seek(toOffset: end > UInt64(limit) ? end - UInt64(limit) : 0)
        let text = String(decoding: (try? handle.readToEnd()) ?? Data(), as: UTF8.self)
        return text.split(separator: "\n").suffix(12).map { "  \($0)" }.joined(separator: "\n")
    }
}
