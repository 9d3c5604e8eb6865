import Domain
import Foundation
import Glibc
import Synchronization

/// Makes PDFs with a program beside Weir, WeasyPrint by default: it reads the page from a file and writes the PDF to another, in a folder of
/// this one run. The page refers to nothing, and its base for references is a folder that there is not, so nothing is fetched.
///
/// Each run has a thread of its own, because it blocks; few run at once, and none runs for ever.
final class PDFCommand: InvoicePrinter {
    private static let limit = 2
    private static let timeoutMilliseconds = 20_000
    private static let answerBytes = 33_554_432

    private typealias CloseFrom = @convention(c) (UnsafeMutablePointer<posix_spawn_file_actions_t>, Int32) -> Int32
    /// `posix_spawn_file_actions_addclosefrom_np` of glibc 2.34, which Swift's module of it does not show.
    private static let closeFrom: CloseFrom? = dlsym(nil, "posix_spawn_file_actions_addclosefrom_np").map {
        unsafeBitCast($0, to: CloseFrom.self)
    }

    private let path: String
    private let running = Mutex(0)

    /// - Parameter command: the program's name or path; empty for none.
    init(command: String) { path = command }

    func pdf(_ page: [UInt8]) async throws(Refusal) -> [UInt8] {
        guard !path.isEmpty else {
            throw Refusal(.pdfUnavailable, "This installation makes no PDFs. Take the invoice as .html and print that.")
        }
        let isFree = running.withLock { count in
            guard count < Self.limit else { return false }
            count += 1
            return true
        }
        guard isFree else {
            throw Refusal(
                .pdfUnavailable, "Other PDFs are being made. Ask again in a moment, or take the invoice as .html.",
                retryAfterSeconds: 2)
        }
        defer { running.withLock { $0 -= 1 } }
        let result = await withCheckedContinuation {
            (continuation: CheckedContinuation<Result<[UInt8], Failure>, Never>) in
            Thread.detachNewThread { [path] in continuation.resume(returning: Self.run(path, page)) }
        }
        switch result {
        case .success(let bytes): return bytes
        case .failure(let failure):
            throw Refusal(
                .pdfUnavailable, "The PDF could not be made. Ask again, or take the invoice as .html.",
                retryAfterSeconds: 10, cause: failure.cause)
        }
    }

    private struct Failure: Error {
        let cause: String
    }

    private static func run(_ path: String, _ page: [UInt8]) -> Result<[UInt8], Failure> {
        var folderName = Array("\(NSTemporaryDirectory())/weir-pdf-XXXXXX".utf8CString)
        guard mkdtemp(&folderName) != nil else { return .failure(Failure(cause: "no temporary folder")) }
        let folder = String(decoding: folderName.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let input = "\(folder)/page.html"
        let output = "\(folder)/page.pdf"
        guard FileManager.default.createFile(atPath: input, contents: Data(page)) else {
            return .failure(Failure(cause: "the page cannot be written"))
        }
        let arguments = [path, "--quiet", "--encoding", "utf-8", "--base-url", "file:///nowhere/", input, output]
        switch wait(for: spawn(arguments)) {
        case .failure(let failure): return .failure(failure)
        case .success: break
        }
        guard let bytes = FileManager.default.contents(atPath: output), bytes.count <= answerBytes,
            bytes.starts(with: Array("%PDF-".utf8))
        else { return .failure(Failure(cause: "the program gave no PDF")) }
        return .success(Array(bytes))
    }

    /// In a group of its own, so that what it starts ends with it.
    private static func spawn(_ arguments: [String]) -> Result<pid_t, Failure> {
        var actions = posix_spawn_file_actions_t()
        var attributes = posix_spawnattr_t()
        posix_spawn_file_actions_init(&actions)
        posix_spawnattr_init(&attributes)
        defer {
            posix_spawn_file_actions_destroy(&actions)
            posix_spawnattr_destroy(&attributes)
        }
        for descriptor in [STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO] {
            posix_spawn_file_actions_addopen(&actions, descriptor, "/dev/null", O_RDWR, 0)
        }
        // Sockets of customers and of the database are open here; the program gets none of them.
        guard let closeFrom, closeFrom(&actions, STDERR_FILENO + 1) == 0 else {
            return .failure(Failure(cause: "this system cannot close files for a program that it starts"))
        }
        posix_spawnattr_setpgroup(&attributes, 0)
        posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETPGROUP))
        var words = arguments.map { strdup($0) } + [nil]
        // Nothing of ours is in its environment: a proxy, a database's password, a key.
        let environment = ["PATH=/usr/local/bin:/usr/bin:/bin", "HOME=/nonexistent", "LC_ALL=C.UTF-8"]
        var variables = environment.map { strdup($0) } + [nil]
        defer { for pointer in words + variables { free(pointer) } }
        var processID: pid_t = 0
        let number = posix_spawnp(&processID, arguments.first ?? "", &actions, &attributes, &words, &variables)
        return number == 0
            ? .success(processID) : .failure(Failure(cause: "cannot start: \(String(cString: strerror(number)))"))
    }

    private static func wait(for spawned: Result<pid_t, Failure>) -> Result<Void, Failure> {
        let processID: pid_t
        switch spawned {
        case .success(let id): processID = id
        case .failure(let failure): return .failure(failure)
        }
        var status: Int32 = 0
        for _ in 0..<(timeoutMilliseconds / 20) {
            let ended = waitpid(processID, &status, WNOHANG)
            if ended == processID {
                return status == 0 ? .success(()) : .failure(Failure(cause: "it ended with status \(status)"))
            }
            if ended < 0, errno != EINTR { return .failure(Failure(cause: "it was lost")) }
            usleep(20_000)
        }
        kill(-processID, SIGKILL)
        while waitpid(processID, &status, 0) < 0, errno == EINTR {}
        return .failure(Failure(cause: "it took too long"))
    }
}
