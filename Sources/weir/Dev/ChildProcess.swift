import Foundation
import Glibc
import Synchronization

/// What to start.
struct ChildCommand: Sendable, Equatable {
    /// For messages and for the name of the log.
    let name: String
    /// The program's path first.
    let arguments: [String]
    var environment: [String: String] = [:]
}

/// A child process in a session of its own, so that Ctrl-C in the terminal reaches `weir dev` alone and the order of
/// stopping is ours.
///
/// Its standard input is a pipe that we hold open: if we die, it ends, and a child that watches it stops.
final class ChildProcess: Sendable {
    private struct State {
        /// As `waitpid` reports it; `nil` while the process runs.
        var waitStatus: Int32?
        var firstLine: String?
    }

    let name: String
    let processID: pid_t
    private let state = Mutex(State())
    private let standardInput: Int32

    /// POSIX_SPAWN_SETSID of glibc's spawn.h.
    private static let startsSession: Int32 = 0x80

    /// Starts a program.
    /// - Parameters:
    ///   - logPath: the file to which standard error goes, and standard output unless `readsOutput`.
    ///   - readsOutput: keeps the first line of standard output for ``firstLine``.
    init(_ command: ChildCommand, logPath: String, readsOutput: Bool = false) throws(CommandFailure) {
        name = command.name
        let inputPipe = try Self.privatePipe()
        let outputPipe = try Self.privatePipe()
        let log = open(logPath, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o600)
        guard log >= 0 else { throw CommandFailure("cannot write \(logPath): \(String(cString: strerror(errno)))") }
        let spawned = Self.spawn(
            command.arguments, environment: command.environment, input: inputPipe[0],
            output: readsOutput ? outputPipe[1] : log, errors: log)
        for descriptor in [inputPipe[0], outputPipe[1], log] { close(descriptor) }
        standardInput = inputPipe[1]
        switch spawned {
        case .success(let processID): self.processID = processID
        case .failure(let error):
            close(standardInput)
            close(outputPipe[0])
            throw CommandFailure(
                "cannot start \(command.arguments.first ?? ""): \(String(cString: strerror(error.number)))")
        }
        startWaiting()
        if readsOutput { startReading(outputPipe[0]) } else { close(outputPipe[0]) }
    }

    /// A pipe whose ends no other child inherits: a copy of the writing end elsewhere would keep it open after our
    /// death.
    private static func privatePipe() throws(CommandFailure) -> [Int32] {
        var ends: [Int32] = [-1, -1]
        guard pipe(&ends) == 0, fcntl(ends[0], F_SETFD, FD_CLOEXEC) == 0, fcntl(ends[1], F_SETFD, FD_CLOEXEC) == 0
        else {
            throw CommandFailure("cannot make a pipe: \(String(cString: strerror(errno)))")
        }
        return ends
    }

    private struct SpawnError: Error {
        let number: Int32
    }

    private static func spawn(
        _ arguments: [String], environment: [String: String], input: Int32, output: Int32, errors: Int32
    ) -> Result<pid_t, SpawnError> {
        var actions = posix_spawn_file_actions_t()
        var attributes = posix_spawnattr_t()
        posix_spawn_file_actions_init(&actions)
        posix_spawnattr_init(&attributes)
        defer {
            posix_spawn_file_actions_destroy(&actions)
            posix_spawnattr_destroy(&attributes)
        }
        posix_spawn_file_actions_adddup2(&actions, input, STDIN_FILENO)
        posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO)
        posix_spawn_file_actions_adddup2(&actions, errors, STDERR_FILENO)
        // Ignored signals stay ignored across exec; ours are ignored because we read them another way.
        var defaults = sigset_t()
        sigemptyset(&defaults)
        for number in [SIGINT, SIGTERM, SIGPIPE, SIGHUP] { sigaddset(&defaults, number) }
        posix_spawnattr_setsigdefault(&attributes, &defaults)
        var mask = sigset_t()
        sigemptyset(&mask)
        posix_spawnattr_setsigmask(&attributes, &mask)
        posix_spawnattr_setflags(
            &attributes, Int16(Int32(POSIX_SPAWN_SETSIGDEF) | Int32(POSIX_SPAWN_SETSIGMASK) | startsSession))

        var words = arguments.map { strdup($0) } + [nil]
        var variables = environment.map { strdup("\($0.key)=\($0.value)") } + [nil]
        defer { for pointer in words + variables { free(pointer) } }
        var processID: pid_t = 0
        let number = posix_spawn(&processID, arguments.first ?? "", &actions, &attributes, &words, &variables)
        return number == 0 ? .success(processID) : .failure(SpawnError(number: number))
    }

    /// A thread for each child: `waitpid` blocks, and the cooperative pool must not.
    private func startWaiting() {
        Thread.detachNewThread { [self] in
            var status: Int32 = 0
            while waitpid(processID, &status, 0) < 0, errno == EINTR {}
            state.withLock { $0.waitStatus = status }
            close(standardInput)
        }
    }

    /// Reads to the end, so that the child never blocks on a full pipe; only the first line is kept.
    private func startReading(_ descriptor: Int32) {
        Thread.detachNewThread { [self] in
            var buffer = [UInt8](repeating: 0, count: 4_096)
            var line: [UInt8] = []
            var isComplete = false
            while true {
                let count = read(descriptor, &buffer, buffer.count)
                if count < 0, errno == EINTR { continue }
                guard count > 0 else { break }
                if isComplete { continue }
                line += buffer[..<count].prefix { $0 != 0x0A }
                isComplete = buffer[..<count].contains(0x0A) || line.count > 65_536
                if isComplete { state.withLock { $0.firstLine = String(decoding: line, as: UTF8.self) } }
            }
            close(descriptor)
        }
    }

    /// The first line of standard output, once it is there.
    var firstLine: String? { state.withLock { $0.firstLine } }

    var isRunning: Bool { state.withLock { $0.waitStatus == nil } }

    /// How it ended: the exit status, or 128 and the signal's number as a shell counts; `nil` while it runs.
    var exitCode: Int32? {
        state.withLock { state in
            state.waitStatus.map { status in status & 0x7F == 0 ? status >> 8 & 0xFF : 128 + (status & 0x7F) }
        }
    }

    /// Sends a signal, unless the process has ended: its number may be another's by then.
    func send(_ signal: Int32) {
        state.withLock { state in
            if state.waitStatus == nil { _ = kill(processID, signal) }
        }
    }

    /// Waits for the end.
    /// - Returns: `false` if the process still runs after that time, or if `hurry` says so.
    func waitForEnd(milliseconds: Int, hurry: () -> Bool = { false }) async -> Bool {
        var remaining = milliseconds
        while isRunning, remaining > 0, !hurry() {
            // The wait goes on when this task is cancelled: whoever stops children must see them end.
            await Pause.uninterrupted(milliseconds: 10)
            remaining -= 10
        }
        return !isRunning
    }

    /// Runs a program to its end.
    /// - Returns: its exit code.
    static func run(_ command: ChildCommand, logPath: String, limitMilliseconds: Int) async throws -> Int32 {
        let child = try ChildProcess(command, logPath: logPath)
        var remaining = limitMilliseconds
        while child.isRunning, remaining > 0 {
            do {
                try await Task.sleep(for: .milliseconds(10))
            } catch {
                child.send(SIGKILL)
                throw error
            }
            remaining -= 10
        }
        guard let code = child.exitCode else {
            child.send(SIGKILL)
            throw CommandFailure("\(command.name) did not finish in \(limitMilliseconds / 1_000) s; see \(logPath)")
        }
        return code
    }
}

/// Waiting that a cancelled task does not cut short. By Dispatch's timer, because `Task.sleep` returns at once in a cancelled task, and
/// children are ended in just such tasks.
enum Pause {
    static func uninterrupted(milliseconds: Int) async {
        await withCheckedContinuation { continuation in
            DispatchQueue.global().asyncAfter(deadline: .now() + .milliseconds(milliseconds)) { continuation.resume() }
        }
    }
}
